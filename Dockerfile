# One image, three roles: docker run IMAGE web | worker | migrate
FROM python:3.13-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app
RUN python -m venv /venv
COPY requirements/run.txt requirements/run.txt
RUN /venv/bin/pip install --require-hashes --only-binary :all: -r requirements/run.txt
COPY . .
# Development settings do: collecting static files needs no secret, and none gets into the image.
RUN LOCAL_DIR=/tmp/build STATIC_ROOT=/app/static /venv/bin/python manage.py collectstatic --noinput --verbosity 0 \
    && /venv/bin/python -m compileall -q config users users_domain

FROM python:3.13-slim
ENV DJANGO_ENV=production \
    PATH=/venv/bin:$PATH \
    PORT=8000 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    STATIC_ROOT=/app/static
WORKDIR /app
COPY --from=build /venv /venv
COPY --from=build /app /app
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
EXPOSE 8000
# Of the role web; compose.yaml and the manifests switch it off for the others.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/health/live', timeout=2)"]
ENTRYPOINT ["python", "-m", "config.role"]
CMD ["web"]
