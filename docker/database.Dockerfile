# PostgreSQL with PostGIS and pgvector. The official image has PGDG's packages at hand, which are kept current.
FROM postgres:17-trixie

# CVE-2026-3172: parallel HNSW builds overflow a buffer below pgvector 0.8.2, so an older package must not get in.
RUN apt-get update \
    && apt-get install -y --no-install-recommends postgresql-17-postgis-3 postgresql-17-pgvector \
    && rm -rf /var/lib/apt/lists/* \
    && dpkg --compare-versions "$(dpkg-query -W -f '${Version}' postgresql-17-pgvector)" ge 0.8.2

COPY docker/init-database.sh /docker-entrypoint-initdb.d/10-geosearch.sh
