# syntax=docker/dockerfile:1.24.0@sha256:87999aa3d42bdc6bea60565083ee17e86d1f3339802f543c0d03998580f9cb89
# The reference deployment: the image-search service, with qmigrate, its revisions and an entrypoint that migrates.
#
#   docker build -t image-search .                     the service
#   docker build -t image-search:gpu --target gpu .    the same with torch and OpenCLIP, for a job that embeds on a GPU
#   docker build -t image-search:console --target console .    the same with `qmigrate serve`, for the people on call
ARG PYTHON=3.13.9-slim-bookworm@sha256:b685a4fa58bb19d1814d78a1ec0f0208f351452724f78b20212c984d6e124a34

FROM python:${PYTHON} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# The environment gets no pip of its own: a service installs nothing.
RUN python -m venv --without-pip /opt/venv
WORKDIR /src
# Every version is pinned with its hashes (scripts/lock), what the build itself needs included.
COPY requirements requirements
RUN pip install --require-hashes -r requirements/build.lock \
    && pip --python /opt/venv/bin/python install --require-hashes -r requirements/image.lock
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && pip --python /opt/venv/bin/python install --no-deps /wheels/*.whl
# Tests and type stubs of libraries are of no use to a service.
RUN find /opt/venv -type d -name tests -prune -exec rm -rf {} + && find /opt/venv -name '*.pyi' -delete

# Same layers below; torch brings its CUDA libraries along, the driver comes from the host.
FROM build AS build-gpu
RUN pip --python /opt/venv/bin/python install --require-hashes -r requirements/image-gpu.lock \
    && find /opt/venv -type d -name tests -prune -exec rm -rf {} + && find /opt/venv -name '*.pyi' -delete

FROM build AS build-console
RUN pip --python /opt/venv/bin/python install --require-hashes -r requirements/image-console.lock \
    && find /opt/venv -type d -name tests -prune -exec rm -rf {} + && find /opt/venv -name '*.pyi' -delete

FROM python:${PYTHON} AS base
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN groupadd --system --gid 10001 image-search \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /app image-search \
    && install -d -o 10001 -g 10001 /weights /app/.qmigrate /app/.qmigrate/exports \
    && pip uninstall --yes --quiet pip
WORKDIR /app
# Owned by root: the service can't change what it runs.
COPY qmigrate.yaml alembic.ini ./
COPY docker-entrypoint.sh /usr/local/bin/
COPY alembic alembic
COPY qdrant_migrations qdrant_migrations
COPY examples/image_search/service.py ./
USER 10001:10001
EXPOSE 8000
# While revisions are applied the service isn't there yet: --start-period is for those that an entrypoint may apply.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["python", "service.py"]

FROM base AS gpu
COPY --from=build-gpu /opt/venv /opt/venv
# Model weights live on a volume, so that they are downloaded once and not by every job.
# What torch compiles goes to /tmp, the only other place that can be written to.
ENV HF_HOME=/weights TORCH_HOME=/weights/torch TRITON_CACHE_DIR=/tmp/triton XDG_CACHE_HOME=/tmp/cache NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
VOLUME /weights

FROM base AS console
COPY --from=build-console /opt/venv /opt/venv
# Exports of what was deleted, by which it is undone, are its only files: they live on a volume.
VOLUME /app/.qmigrate/exports
EXPOSE 6380
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:6380/health/livez', timeout=4)"]
CMD ["qmigrate", "serve", "--host", "0.0.0.0"]

# The last target is what `docker build .` makes.
FROM base AS service
COPY --from=build /opt/venv /opt/venv
