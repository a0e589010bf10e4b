# Airflow with AI TestOps in it: DAGs, plugin, operators, library. Build from the project's root (`make image`):
#   docker build --build-arg VERSION=0.1.0 -t testops-airflow:0.1.0 .
# It serves every component of Airflow, the collector and the command line; runners have a smaller image (runner/Dockerfile).
# Give a base by digest where your registry has one: --build-arg BASE=python:3.11-slim@sha256:…
# Further providers of Airflow, for secrets backends and the like: --build-arg PROVIDERS="hashicorp google". What is locked here wins over
# what they require: Google's asks for an older google-genai, which its secrets backend does not use.
ARG BASE=python:3.11-slim
FROM ${BASE} AS packages
ARG PROVIDERS=
RUN python -m venv --without-pip /opt/venv \
 && pip install --no-cache-dir --quiet --root-user-action=ignore uv
WORKDIR /build
COPY requirements.txt constraints.txt
COPY pyproject.toml README.md LICENSE ./
# Wheels only, so that no compiler is needed. Byte code is made here: the root file system is read-only where it runs.
RUN printf '#!/bin/sh\nset -e\nindex="$(pip config get global.index-url 2>/dev/null || true)"\nexport VIRTUAL_ENV=/opt/venv SSL_CERT_FILE="${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}"\nexec env ${index:+UV_DEFAULT_INDEX="$index"} uv pip install --quiet --no-cache "$@"\n' > /usr/local/bin/install \
 && chmod 755 /usr/local/bin/install
RUN for provider in ${PROVIDERS}; do echo "apache-airflow-providers-${provider}"; done > providers.txt \
 && /usr/local/bin/install --no-build --compile-bytecode --constraints constraints.txt \
      ${PROVIDERS:+--overrides constraints.txt} -r providers.txt \
      -r pyproject.toml --extra airflow --extra bus --extra gemini --extra openai --extra property
# What the image holds, as CycloneDX (SBOM). The project itself is found beside the packages, so that an update of it is a small layer.
RUN /usr/local/bin/install --target /build/sbom cyclonedx-bom==7.5.0 \
 && mkdir -p /opt/venv/share/sbom \
 && PYTHONPATH=/build/sbom python -m cyclonedx_py environment --pyproject pyproject.toml --output-format JSON \
      --output-file /opt/venv/share/sbom/testops-airflow.cdx.json /opt/venv/bin/python \
 && /opt/venv/bin/python -c 'import pathlib, sysconfig; pathlib.Path(sysconfig.get_path("purelib"), "testops.pth").write_text("/opt/testops\n")'

FROM packages AS project
COPY testops_lib testops_lib
COPY testops_airflow testops_airflow
COPY runner runner
RUN /usr/local/bin/install --no-deps --compile-bytecode --target /opt/testops .

FROM ${BASE}
ARG VERSION=dev
LABEL org.opencontainers.image.title="AI TestOps on Apache Airflow" \
      org.opencontainers.image.description="Airflow 3.3 with the DAGs, plugin, operators and command line of AI TestOps" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}"
# As the official chart expects: user 50000 of group 0, /entrypoint before its probes, /clean-logs in its log groomers.
RUN useradd --uid 50000 --gid 0 --create-home --shell /usr/sbin/nologin airflow \
 && install -d -o 50000 -g 0 -m 775 /opt/airflow /opt/airflow/logs /opt/airflow/config \
 && printf '#!/bin/sh\nexec "$@"\n' > /entrypoint \
 && printf '#!/bin/sh\n# Deletes logs older than AIRFLOW__LOG_RETENTION_DAYS days, every 15 minutes.\nwhile find "${AIRFLOW_HOME}/logs" -type f -mtime "+${AIRFLOW__LOG_RETENTION_DAYS:-15}" -delete; do sleep 900; done\n' > /clean-logs \
 && printf '# Settings come from AIRFLOW__ variables. Without this file Airflow would write one, and fails where the root file system is read-only.\n' > /opt/airflow/airflow.cfg \
 && chmod 755 /entrypoint /clean-logs
COPY --from=packages /opt/venv /opt/venv
COPY --from=project /opt/testops /opt/testops
COPY dags /opt/airflow/dags
COPY plugins /opt/airflow/plugins
COPY targets /opt/airflow/targets
ENV PATH=/opt/venv/bin:/opt/testops/bin:/usr/local/bin:/usr/bin:/bin \
    AIRFLOW_HOME=/opt/airflow \
    TESTOPS_TARGETS_DIR=/opt/airflow/targets \
    TESTOPS_VERSION="${VERSION}" \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /opt/airflow
USER 50000:0
ENTRYPOINT ["/entrypoint"]
CMD ["airflow", "version"]
