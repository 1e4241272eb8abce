"""Another hand's WeCom encryption (wechatpy, not official) against ours and our fake's.

Not part of the suite:

    pip install wechatpy==1.8.18 pycryptodome
    python -m tests.oracles.wecom_crypto
"""

from __future__ import annotations

import base64
import re

from wechatpy.enterprise.crypto import WeChatCrypto

from channels.wecom.seal import decrypt, encrypt, sign
from tests.fakes.wecom_server import FakeWeCom


def main() -> None:
    fake = FakeWeCom()
    key = base64.b64decode(fake.aes_key + "=")
    other = WeChatCrypto(fake.callback_token, fake.aes_key, fake.corp_id)
    query, body = fake.callback(Content="你好")
    assert "你好" in other.decrypt_message(body, query["msg_signature"], query["timestamp"], query["nonce"])
    ours = encrypt(key, "<xml>中</xml>".encode(), fake.corp_id)
    signed = sign(fake.callback_token, "1700000000", "n", ours)
    xml = f"<xml><Encrypt>{ours}</Encrypt></xml>"
    assert other.decrypt_message(xml, signed, "1700000000", "n") == "<xml>中</xml>"
    theirs = other.encrypt_message("<xml>reply</xml>", "nonce1", "1700000000")
    found = re.search(r"<Encrypt><!\[CDATA\[(.+?)\]\]>", theirs)
    mac = re.search(r"<MsgSignature><!\[CDATA\[(.+?)\]\]>", theirs)
    assert found is not None
    assert mac is not None
    assert decrypt(key, found[1], fake.corp_id) == b"<xml>reply</xml>"
    assert sign(fake.callback_token, "1700000000", "nonce1", found[1]) == mac[1]
    print("both hands agree")


if __name__ == "__main__":
    main()
