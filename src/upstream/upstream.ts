/**
 * The face of `upstream`: the connection to the real PostgreSQL.
 */
export { applicationName } from './application-name.ts'
export { sendCancel } from './cancel.ts'
export {
  CatalogStore,
  type CatalogConnection,
  type CatalogStoreOptions,
  type DatabaseCatalog,
} from './catalog.ts'
export { catalogQuery, connectCatalog } from './catalog-client.ts'
export {
  loadCatalog,
  loadOverlay,
  reloadCatalog,
  type CatalogQuery,
  type LoadedCatalog,
} from './catalog-load.ts'
export { connectUpstream, parseServerVersion, pinnedSettings } from './connect.ts'
export {
  commandSecret,
  environmentSecret,
  fileSecret,
  type CommandSecretOptions,
} from './credentials.ts'
export { ignoreErrors, SocketBytes } from './socket-bytes.ts'
export type {
  Secret,
  UpstreamConnection,
  UpstreamOptions,
  UpstreamRole,
  UpstreamTarget,
  UpstreamTls,
  UpstreamTlsMode,
} from './target.ts'
export { tlsAttempts, tlsOptions, type TlsAttempt } from './tls.ts'
