# The worker and the command line, on a release of Node that `npm run test:node -- 22` tests. Debian, because Temporal's
# native module has no build for musl.
FROM node:22-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
# The embedded Postgres is an optional dependency of a dependency, and not needed in here.
RUN npm ci --include=dev --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY scripts scripts
COPY src src
RUN node scripts/build.mjs && npm ci --omit=dev --omit=optional --no-audit --no-fund

FROM node:22-bookworm-slim
ENV NODE_ENV=production
# The programs of decompression and conversion. util-linux, which limits them, is in the base image.
RUN apt-get update \
  && apt-get install -y --no-install-recommends qemu-utils xz-utils zstd \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
# Staging area and file stores, on one volume so that a copy can be a link.
RUN chmod +x dist/cli/main.js \
  && ln -s /app/dist/cli/main.js /usr/local/bin/image-import \
  && install -d -o node -g node /var/lib/image-import /var/lib/image-import/staging /var/lib/image-import/stores/local
USER node
VOLUME /var/lib/image-import
# A worker gives its activities 15 s to finish.
STOPSIGNAL SIGTERM
ENTRYPOINT ["image-import"]
CMD ["worker"]
