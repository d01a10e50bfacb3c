/**
 * Every limit that exists, with its default and its unit last in the name. `limits:` in the
 * configuration overrides any of them. A limit that is hit is a ProxyError that names the limit.
 */
export const defaultLimits = {
  /** Connections accepted per worker, authenticated or not. */
  connectionsMax: 10_000,
  /** Sessions of one subject in a worker, with those that are being connected. */
  sessionsPerSubjectMax: 1_000,
  /** Connections that have not authenticated yet; who holds most of them gives up the first. */
  unauthenticatedMax: 1_000,
  /** StartupMessage, SSLRequest and the like. PostgreSQL's own MAX_STARTUP_PACKET_LENGTH. */
  startupBytesMax: 10_000,
  /** A password, SASL response or token before authentication. */
  authenticationBytesMax: 65_536,
  /** Time from accept to the end of authentication. */
  authenticationMsMax: 60_000,
  /** Steps of handshakes that a worker does in one turn of its event loop; sessions come first. */
  handshakeStepsPerTurnMax: 4,
  /** Failed logins that one address may make in the window. */
  failedAttemptsPerSourceMax: 50,
  /** Failed logins of one user name in the window, from anywhere. */
  failedAttemptsPerUserMax: 200,
  /** Failed logins of one user name from one address in the window. */
  failedAttemptsPerSourceAndUserMax: 10,
  /** The window of failed logins; they are forgotten evenly over it. */
  failedAttemptsWindowMs: 60_000,
  /** One frontend message other than CopyData. */
  frameBytesMax: 64 * 1024 * 1024,
  /** One backend message that has to be held in memory (a row with a masked field, an error). */
  heldFrameBytesMax: 64 * 1024 * 1024,
  /** One query string. */
  statementBytesMax: 16 * 1024 * 1024,
  /** Above this a query string is parsed in a worker thread. */
  inPlaceParseBytesMax: 16 * 1024,
  /** Statements in one query string. */
  statementCountMax: 10_000,
  /** Nesting and operator chains that the linear scan before parsing counts. */
  depthMax: 4_000,
  /** Wall clock of a parse in a worker thread. */
  parseMsMax: 10_000,
  /** Syntax tree JSON handed to a policy. */
  treeBytesMax: 64 * 1024 * 1024,
  /** Wall clock of one policy evaluation. */
  evaluationMsMax: 5_000,
  /** An evaluation that is expected to take longer runs in a worker thread. In microseconds. */
  inPlaceEvaluationUsMax: 20_000,
  /** Evaluations that wait for the worker thread. */
  evaluationQueueCountMax: 1_000,
  /** Linear memory of one instance of a policy's module. */
  policyMemoryBytesMax: 512 * 1024 * 1024,
  /** A policy bundle, packed and unpacked. */
  bundleBytesMax: 256 * 1024 * 1024,
  /** Files in a policy bundle. */
  bundleFileCountMax: 10_000,
  /** Named prepared statements of a session. */
  preparedCountMax: 10_000,
  /** Portals and cursors of a session. */
  portalCountMax: 10_000,
  /** Frontend messages of a session whose answers are still to come. */
  pipelineCountMax: 100_000,
  /** What a session keeps of its named statements, portals and cursors: texts, parameters, trees. */
  namedBytesMax: 64 * 1024 * 1024,
  /** What a session keeps of messages whose answers are still to come; above it, it waits for them. */
  pipelineBytesMax: 64 * 1024 * 1024,
  /** What a session knows of its named statements beside their texts; above it, it finds out anew. */
  judgementBytesMax: 4 * 1024 * 1024,
  /** What a client may send while its session waits (hold, catalog, probe). */
  heldInputBytesMax: 16 * 1024 * 1024,
  /** Analysis cache of a worker. */
  analysisCacheBytesMax: 64 * 1024 * 1024,
  /** Decision cache of a worker. */
  decisionCacheBytesMax: 32 * 1024 * 1024,
  /** Logins of a worker on their way to one server; more wait for their turn. */
  upstreamLoginCountMax: 16,
  /** Connecting and authenticating upstream, the wait for a turn included. */
  upstreamConnectMsMax: 15_000,
  /** Rows that the audit keeps of one result (`audit.results: masked`). */
  recordedRowCountMax: 100,
  /** Bytes that the audit keeps of one result. */
  recordedResultBytesMax: 64 * 1024,
  /** Statements on hold in a worker. */
  holdCountMax: 10_000,
  /** Statements of a worker that are traced in one second. */
  tracedPerSecondMax: 1_000,
  /** Open requests for approval of one subject. */
  pendingApprovalsMax: 2_000,
  /** How long closed requests for approval are kept in their store; the audit keeps the story. */
  approvalsKeptMs: 30 * 24 * 60 * 60 * 1_000,
  /** How long what runs may go on in a session whose token has ended or was revoked. */
  endingMsMax: 10_000,
  /** How long a drain waits for sessions before they are ended. */
  drainMsMax: 30_000,
  /** How long sessions of a worker that was replaced may go on before they are drained. */
  retireMsMax: 60 * 60 * 1000,
  /** How long sessions of a worker may go on whose primary process has died. */
  orphanMsMax: 5 * 60 * 1000,
  /** How long a new worker may take until it listens. */
  workerStartMsMax: 60_000,
} as const satisfies Record<string, number>

/** Names and values of all limits; see `defaultLimits` for what each means. */
export type Limits = { readonly [name in keyof typeof defaultLimits]: number }
