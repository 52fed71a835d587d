# The geosearch command: for migrating and for embedding, with or without a GPU (torch brings its own CUDA).
FROM python:3.13-slim

WORKDIR /src
COPY . .
# === of the constraints keeps pip from a build such as 2.14.0+cpu, which would see no GPU.
RUN pip install --no-cache-dir --constraint setup/constraints.txt . && rm -rf /src/*

RUN useradd --create-home geosearch && install -d -o geosearch /data
USER geosearch
WORKDIR /data
ENV GEOSEARCH_HOME=/data
ENTRYPOINT ["geosearch"]
CMD ["--help"]
