/**
 * Type bytes and codes of the protocol, named as the documentation names the messages, in both
 * directions. Data only. The same letter means different things by direction ('D' is Describe (F)
 * and DataRow (B)), so there are two tables and no common one.
 *
 * https://www.postgresql.org/docs/18/protocol-message-formats.html
 * PostgreSQL source: src/include/libpq/protocol.h, src/include/libpq/pqcomm.h (18).
 */

/** Type bytes of messages that a frontend sends (F). */
export const frontendTypes = {
  Bind: 0x42, // 'B'
  Close: 0x43, // 'C'
  Describe: 0x44, // 'D'
  Execute: 0x45, // 'E'
  FunctionCall: 0x46, // 'F'
  Flush: 0x48, // 'H'
  Parse: 0x50, // 'P'
  Query: 0x51, // 'Q'
  Sync: 0x53, // 'S'
  Terminate: 0x58, // 'X'
  CopyDone: 0x63, // 'c'
  CopyData: 0x64, // 'd'
  CopyFail: 0x66, // 'f'
  /** PasswordMessage, SASLInitialResponse, SASLResponse and GSSResponse share this byte. */
  PasswordMessage: 0x70, // 'p'
} as const

/** Type bytes of messages that a backend sends (B). */
export const backendTypes = {
  ParseComplete: 0x31, // '1'
  BindComplete: 0x32, // '2'
  CloseComplete: 0x33, // '3'
  NotificationResponse: 0x41, // 'A'
  CommandComplete: 0x43, // 'C'
  DataRow: 0x44, // 'D'
  ErrorResponse: 0x45, // 'E'
  CopyInResponse: 0x47, // 'G'
  CopyOutResponse: 0x48, // 'H'
  EmptyQueryResponse: 0x49, // 'I'
  BackendKeyData: 0x4b, // 'K'
  NoticeResponse: 0x4e, // 'N'
  Authentication: 0x52, // 'R'
  ParameterStatus: 0x53, // 'S'
  RowDescription: 0x54, // 'T'
  FunctionCallResponse: 0x56, // 'V'
  CopyBothResponse: 0x57, // 'W'
  ReadyForQuery: 0x5a, // 'Z'
  CopyDone: 0x63, // 'c'
  CopyData: 0x64, // 'd'
  NoData: 0x6e, // 'n'
  PortalSuspended: 0x73, // 's'
  ParameterDescription: 0x74, // 't'
  NegotiateProtocolVersion: 0x76, // 'v'
} as const

/** First Int32 of an Authentication message: AUTH_REQ_… in protocol.h. */
export const authenticationCodes = {
  Ok: 0,
  KerberosV5: 2,
  CleartextPassword: 3,
  MD5Password: 5,
  GSS: 7,
  GSSContinue: 8,
  SSPI: 9,
  SASL: 10,
  SASLContinue: 11,
  SASLFinal: 12,
} as const

/** `major << 16 | minor`, PG_PROTOCOL() in pqcomm.h. */
export const protocolVersions = {
  v3_0: 0x0003_0000,
  v3_2: 0x0003_0002,
} as const

/** Codes that stand where a StartupMessage has its version: 1234 << 16 | n, pqcomm.h. */
export const requestCodes = {
  CancelRequest: 80_877_102,
  SSLRequest: 80_877_103,
  GSSENCRequest: 80_877_104,
} as const

/** First byte of a TLS handshake record (RFC 8446 §5.1): a client that starts TLS directly. */
export const tlsHandshakeByte = 0x16

/** Transaction status of ReadyForQuery: idle, in a transaction, in a failed transaction. */
export const transactionStatuses = {
  idle: 0x49, // 'I'
  transaction: 0x54, // 'T'
  failed: 0x45, // 'E'
} as const

/** The three states that ReadyForQuery can report. */
export type TransactionStatus = keyof typeof transactionStatuses

/**
 * PQ_SMALL_MESSAGE_LIMIT (src/include/libpq/libpq.h, 14 and later): the server drops a connection
 * that declares more for a message that carries at most a name.
 */
export const smallMessageBytesMax = 10_000

/** MaxAllocSize (src/include/utils/memutils.h): nothing longer is ever sent by a server. */
export const messageBytesMax = 0x3fff_ffff

/**
 * Longest declared length by type byte; 0 where the byte is no message of this direction. The small
 * limits are those of SocketBackend() in src/backend/tcop/postgres.c. CopyData is as long as the
 * server takes it, because it can be passed on in parts.
 *
 * @param largeBytesMax limit of the other messages that carry text or data
 */
export const frontendFrameLimits = perLimit((largeBytesMax) => {
  const limits = new Uint32Array(256)
  for (const type of Object.values(frontendTypes)) limits[type] = largeBytesMax
  const small = Math.min(smallMessageBytesMax, largeBytesMax)
  const { Close, Describe, Execute, Flush, Sync, Terminate, CopyDone, CopyFail } = frontendTypes
  for (const type of [Close, Describe, Execute, Flush, Sync, Terminate, CopyDone, CopyFail]) {
    limits[type] = small
  }
  limits[frontendTypes.CopyData] = messageBytesMax
  return limits
})

/** Before a client is authenticated: its PasswordMessage (also SASL's answers), and nothing else. */
export const passwordFrameLimits = perLimit((bytesMax) => {
  const limits = new Uint32Array(256)
  limits[frontendTypes.PasswordMessage] = bytesMax
  return limits
})

/** As `frontendFrameLimits`, for what a server sends: rows and CopyData can be passed in parts. */
export const backendFrameLimits = perLimit((largeBytesMax) => {
  const limits = new Uint32Array(256)
  for (const type of Object.values(backendTypes)) limits[type] = largeBytesMax
  limits[backendTypes.DataRow] = messageBytesMax
  limits[backendTypes.CopyData] = messageBytesMax
  return limits
})

/** Made once for each limit, of which a configuration has two; never written to afterwards. */
function perLimit(make: (bytesMax: number) => Uint32Array): (bytesMax: number) => Uint32Array {
  const made = new Map<number, Uint32Array>()
  return (bytesMax) => {
    const limits = made.get(bytesMax) ?? make(bytesMax)
    made.set(bytesMax, limits)
    return limits
  }
}

const frontendNames = namesByType(frontendTypes)
const backendNames = namesByType(backendTypes)

/** The documentation's name of a frontend message, or null where the byte is none. */
export function frontendMessageName(type: number): string | null {
  return frontendNames[type] ?? null
}

/** The documentation's name of a backend message, or null where the byte is none. */
export function backendMessageName(type: number): string | null {
  return backendNames[type] ?? null
}

function namesByType(types: Readonly<Record<string, number>>): readonly (string | undefined)[] {
  const names: (string | undefined)[] = Array.from({ length: 256 }, () => undefined)
  for (const [name, type] of Object.entries(types)) names[type] = name
  return names
}
