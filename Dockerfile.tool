# syntax=docker/dockerfile:1.24.0@sha256:87999aa3d42bdc6bea60565083ee17e86d1f3339802f543c0d03998580f9cb89
# qmigrate alone, without the reference deployment: for jobs, hooks and pipelines of a project that brings its revisions.
#
#   docker build -f Dockerfile.tool -t qmigrate .
#   docker run --rm --read-only --tmpfs /tmp -v "$PWD:/project:ro" -e QMIGRATE_QDRANT_URL -e QMIGRATE_LEDGER_URL qmigrate plan
#
# Or as the base of an image that holds them: FROM qmigrate, then COPY qmigrate.yaml and qdrant_migrations to /project.
ARG PYTHON=3.13.9-slim-bookworm@sha256:b685a4fa58bb19d1814d78a1ec0f0208f351452724f78b20212c984d6e124a34

FROM python:${PYTHON} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv --without-pip /opt/venv
WORKDIR /src
# The lock of the service has just what the project declares; of embedders, those without torch.
COPY requirements requirements
RUN pip install --require-hashes -r requirements/build.lock \
    && pip --python /opt/venv/bin/python install --require-hashes -r requirements/image.lock
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && pip --python /opt/venv/bin/python install --no-deps /wheels/*.whl
RUN find /opt/venv -type d -name tests -prune -exec rm -rf {} + && find /opt/venv -name '*.pyi' -delete

FROM python:${PYTHON} AS tool
LABEL org.opencontainers.image.title="qmigrate" \
      org.opencontainers.image.description="Schema migration for Qdrant" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Owned by root: the user of the tool can change neither the tool nor the revisions.
RUN groupadd --system --gid 10001 qmigrate \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /project qmigrate \
    && pip uninstall --yes --quiet pip
COPY --from=build /opt/venv /opt/venv
WORKDIR /project
USER 10001:10001
ENTRYPOINT ["qmigrate"]
CMD ["--help"]
