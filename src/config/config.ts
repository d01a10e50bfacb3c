/** The face of `config`: regate.yaml, checked. */
export type {
  BundleConfiguration,
  Configuration,
  DatabaseConfiguration,
  ListenTlsConfiguration,
  PolicyConfiguration,
  RoleConfiguration,
  ServiceConfiguration,
  SigningConfiguration,
  SinkConfiguration,
  UpstreamTlsConfiguration,
} from './configuration.ts'
export type { ConfigurationError } from './explain.ts'
export {
  formatConfigurationError,
  loadConfiguration,
  parseConfiguration,
  type LoadedConfiguration,
  type Needed,
} from './load.ts'
export { configurationJsonSchema } from './schema.ts'
export { readSecret, type SecretSource } from './secrets.ts'
export { durationMs, isLoopback } from './values.ts'
