# Two stages: the compiler stays behind. The embedded PostgreSQL and OPA are development's: a
# production image carries neither, so policies come as a bundle.tar.gz.
FROM node:22-bookworm-slim AS build
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts --omit=optional
COPY . .
RUN node scripts/build.mjs && npm prune --omit=dev --omit=optional --ignore-scripts

FROM node:22-bookworm-slim
WORKDIR /regate
# Shorter pauses for garbage: docs/guides/identity.md.
ENV NODE_ENV=production NODE_OPTIONS=--max-semi-space-size=4
COPY --from=build --chown=root:root /build/package.json /build/README.md /build/LICENSE ./
COPY --from=build /build/node_modules node_modules
COPY --from=build /build/dist dist
COPY --from=build /build/policies policies
# `audit.directory` is beside the configuration by default: there it leads into the volume.
RUN mkdir -p /var/lib/regate /etc/regate && chown node:node /var/lib/regate \
  && ln -s /var/lib/regate /etc/regate/regate-data
USER node
EXPOSE 6432 8432
VOLUME /var/lib/regate
# Alive, not ready: one that drains or whose newest bundle is broken must not be killed.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["node", "-e", "fetch('http://127.0.0.1:8432/livez').then(r=>process.exit(r.ok?0:1),()=>process.exit(1))"]
ENTRYPOINT ["node", "dist/main.js"]
CMD ["serve", "--config", "/etc/regate/regate.yaml"]
