/**
 * The face of `identity`: who is asking. Verifies credentials (SCRAM, tokens, certificates) and
 * yields an Identity. Knows nothing of sockets: the handshake (server) moves the bytes.
 */
export type { AuthenticationMethod, Identity } from './subject.ts'
export {
  isAsymmetricAlgorithm,
  oidcEntryDefaults,
  type AuthenticationEntry,
  type CertificateEntry,
  type EntryMatch,
  type IntrospectionOptions,
  type OidcEntry,
  type ScramEntry,
  type TrustEntry,
} from './options.ts'
export {
  Authenticator,
  Exchange,
  type AuthenticationStep,
  type AuthenticatorOptions,
  type ConnectionFacts,
} from './authenticator.ts'
export { AttemptLimiter, attemptLimitsOf, type AttemptLimits } from './attempts.ts'
export { serverEndPoint, type PeerNames } from './certificate.ts'
export { matchFault } from './entries.ts'
export { isLoopback, sourceOf } from './source.ts'
export { identityOfClaims, type Claims } from './claims.ts'
export { discoveryUrlOf, isAllowedUrl } from './issuer.ts'
export { readRevocations, writeRevocations } from './revocation-file.ts'
export { RevocationList, type Revocation, type RevocationChange } from './revocation.ts'
export {
  deriveVerifier,
  formatVerifier,
  parseVerifier,
  ScramClient,
  ScramKeyCache,
  scramMechanism,
  scramPlusMechanism,
  type ScramVerifier,
} from './scram.ts'
export { TokenVerifier, type TokenResult } from './token.ts'
export {
  parseUsers,
  UsersError,
  UsersFile,
  writeUser,
  type LocalUser,
  type NewUser,
} from './users.ts'
