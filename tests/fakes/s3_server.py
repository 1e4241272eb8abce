"""An S3-compatible store on loopback that believes only what is signed right (Signature Version 4, by its own hand)."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

ACCESS, SECRET = "AKIATEST", "the secret of the store, 40 characters.."


@dataclass
class FakeS3:
    """Objects by key below one bucket. `fail` answers the next requests of a method with a status."""

    bucket: str = "keep"
    region: str = "us-east-1"
    objects: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    fail: dict[str, int] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        await self._answer(request, body)(scope, receive, send)

    def _answer(self, request: Request, body: bytes) -> Response:
        raw = request.scope["raw_path"].decode()
        query = dict(parse_qsl(request.url.query, keep_blank_values=True))
        self.asked.append(f"{request.method} {raw}?{request.url.query}")
        if request.method in self.fail:
            return error(self.fail[request.method], "SlowDown")
        if not self._signed(request, raw, query, body):
            return error(403, "SignatureDoesNotMatch")
        _, bucket, *rest = unquote(raw).split("/", 2)
        if bucket != self.bucket:
            return error(404, "NoSuchBucket")
        key = rest[0] if rest else ""
        method = getattr(self, f"_{request.method.lower()}")
        answer: Response = method(key, query, body, request)
        return answer

    def _signed(self, request: Request, path: str, query: dict[str, str], body: bytes) -> bool:
        head = request.headers
        given = dict(part.strip().split("=", 1) for part in head["authorization"].split(" ", 1)[1].split(","))
        date = head["x-amz-date"]
        scope = f"{date[:8]}/{self.region}/s3/aws4_request"
        names = given["SignedHeaders"].split(";")
        line = "&".join(f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}" for k, v in sorted(query.items()))
        values = "".join(f"{name}:{head[name].strip()}\n" for name in names)
        digest = hashlib.sha256(body).hexdigest()
        request_text = f"{request.method}\n{path}\n{line}\n{values}\n{';'.join(names)}\n{digest}"
        text = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashlib.sha256(request_text.encode()).hexdigest()}"
        key = f"AWS4{SECRET}".encode()
        for part in scope.split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        expected = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        return given["Credential"] == f"{ACCESS}/{scope}" and given["Signature"] == expected and "host" in names

    def _put(self, key: str, query: dict[str, str], body: bytes, request: Request) -> Response:
        if "uploadId" in query:
            self.uploads[query["uploadId"]][int(query["partNumber"])] = body
        else:
            self.objects[key] = body
        return Response(headers={"etag": f'"{hashlib.md5(body).hexdigest()}"'})

    def _post(self, key: str, query: dict[str, str], body: bytes, request: Request) -> Response:
        if "uploads" in query:
            self.uploads["up 1/+"] = {}
            return Response(
                "<InitiateMultipartUploadResult><UploadId>up 1/+</UploadId></InitiateMultipartUploadResult>"
            )
        parts = self.uploads.pop(query["uploadId"])
        assert body.count(b"<PartNumber>") == len(parts)
        self.objects[key] = b"".join(parts[n] for n in sorted(parts))
        return Response("<CompleteMultipartUploadResult/>")

    def _get(self, key: str, query: dict[str, str], body: bytes, request: Request) -> Response:
        if not key:
            found = [name for name in sorted(self.objects) if name.startswith(query.get("prefix", ""))]
            return Response("".join(f"<Contents><Key>{name}</Key></Contents>" for name in found))
        if key not in self.objects:
            return error(404, "NoSuchKey")
        data = self.objects[key]
        assert request.headers["range"] == "bytes=0-0"
        return Response(data[:1], 206, headers={"content-range": f"bytes 0-0/{len(data)}"})

    def _delete(self, key: str, query: dict[str, str], body: bytes, request: Request) -> Response:
        if "uploadId" in query:
            self.uploads.pop(query["uploadId"], None)
        else:
            self.objects.pop(key, None)
        return Response(status_code=204)


def error(status: int, code: str) -> Response:
    return Response(f"<Error><Code>{code}</Code></Error>", status)
