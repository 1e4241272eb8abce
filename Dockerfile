# 知行 Zhixing. Build: docker build -t zhixing .
# Behind a mirror:  docker build --build-arg BASE=<mirror>/library/python:3.12-slim --build-arg PIP_INDEX_URL \
#                                --build-arg APT_MIRROR=<mirror's host> -t zhixing .
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
# Taken from the environment when named without a value; a proxy needs no line here.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
WORKDIR /app
# With what several containers on one PostgreSQL need, 15 MB: --build-arg LOCKS="requirements.txt requirements-cluster.txt"
ARG LOCKS=requirements.txt
COPY requirements.txt requirements-cluster.txt ./
RUN python3 -m venv .venv \
 && .venv/bin/python -m pip install --disable-pip-version-check --no-cache-dir --no-compile --only-binary :all: \
      --require-hashes $(printf -- '-r %s ' ${LOCKS})
COPY . .
RUN sh deploy/slim.sh

FROM ${BASE}
ARG APT_MIRROR
# opendoas gives a mounted folder that belongs to root to our user, once, before the program starts
RUN set -e; \
    if [ -n "${APT_MIRROR}" ]; then \
      find /etc/apt -name '*.list' -o -name '*.sources' | xargs sed -i "s#//[^/ ]*/#//${APT_MIRROR}/#"; \
    fi; \
    apt-get update; \
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends opendoas ca-certificates; \
    rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log; \
    useradd --uid 10001 --user-group --no-create-home --home-dir /app/data --shell /usr/sbin/nologin zhixing; \
    echo 'permit nopass zhixing as root cmd /usr/bin/chown args 10001:10001 /app/data' > /etc/doas.conf; \
    chmod 0400 /etc/doas.conf
COPY --from=build /app /app
RUN mkdir /app/data && chown 10001:10001 /app/data && chmod 700 /app/data
WORKDIR /app
# The published port is outside of what the container can know: the wizard and the security checklist say what it means
ENV ZHIXING_HOST=0.0.0.0 \
    ZHIXING_ACCEPT_PLAIN=1 \
    ZHIXING_DATA=/app/data \
    ZHIXING_KEY_FILE=/app/data/master.key \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1
USER 10001:10001
VOLUME /app/data
EXPOSE 18789
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
  CMD ["/app/.venv/bin/python", "-I", "/app/deploy/healthy.py"]
ENTRYPOINT ["/app/deploy/entrypoint.sh"]
CMD ["serve"]
