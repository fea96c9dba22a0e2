# syntax=docker/dockerfile:1

# The project as a wheel, beside its pinned set in an environment that can be copied as it is. Nothing is compiled:
# what has no wheel for this Python fails here.
FROM python:3.14-slim-trixie AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY requirements/build.txt requirements/serve.txt requirements/
RUN pip install --require-hashes --only-binary=:all: -r requirements/build.txt \
 && python -m venv --without-pip /opt/pictor \
 && pip --python /opt/pictor install --require-hashes --only-binary=:all: -r requirements/serve.txt
COPY pyproject.toml README.md ./
COPY translators translators
COPY proxy proxy
RUN pip wheel --no-build-isolation --no-deps --wheel-dir dist . \
 && pip --python /opt/pictor install --no-index --no-deps dist/*.whl

# Runs with a read-only root file system: only the volume and /tmp are written to. Another configuration is mounted
# over /pictor/config.yaml. The container listens to others, so it starts only with a key: PICTOR_KEY, or keys there.
FROM python:3.14-slim-trixie
LABEL org.opencontainers.image.title="Pictor" \
      org.opencontainers.image.description="Every image model behind OpenAI's own API"
ENV PATH=/opt/pictor/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN install -d -o 10001 -g 10001 -m 0750 /pictor/data
COPY --from=build /opt/pictor /opt/pictor
WORKDIR /pictor
COPY config.yaml ./
USER 10001:10001
VOLUME ["/pictor/data"]
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=2)"]
ENTRYPOINT ["pictor"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
