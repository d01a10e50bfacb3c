/**
 * A readable trace of a connection, one message a line, in the format of libpq's PQtrace without
 * timestamps (src/interfaces/libpq/fe-trace.c, 18): golden tests compare it with what libpq itself
 * wrote. Where libpq reports "mismatched message length" (MD5 salt, 3.2 secrets) the rest is shown.
 *
 * Passwords, SASL data and cancel secrets are hidden unless asked for. Must not be used on the path
 * of live statements: it decodes and allocates everything.
 */
import { ProxyError } from '../core/core.ts'
import { FrameReader } from './frames.ts'
import {
  authenticationCodes,
  backendMessageName,
  frontendMessageName,
  messageBytesMax,
  requestCodes,
} from './messages.ts'
import { BodyReader } from './reader.ts'

export interface TraceOptions {
  /** Show passwords, SASL data and cancel secrets. */
  readonly secrets?: boolean
  /** As PQTRACE_REGRESS_MODE: oids, process ids, source lines and data as NNNN, SSSS, BBBB. */
  readonly regress?: boolean
}

/**
 * Fields by message, one letter each: b Byte1, h Int16, i Int32, I Int32 that regress mode hides,
 * s String, k secret, d data to the end, H counted Int16s, L counted oids, V counted values, v one
 * value, R counted fields of RowDescription, S Int32-counted strings, E fields of an error.
 */
const frontendLayouts: Readonly<Record<string, string>> = {
  Bind: 'ssHVH',
  Close: 'bs',
  Describe: 'bs',
  Execute: 'si',
  FunctionCall: 'IHVh',
  Parse: 'ssL',
  Query: 's',
  CopyData: 'd',
  CopyFail: 's',
}

const backendLayouts: Readonly<Record<string, string>> = {
  NotificationResponse: 'Iss',
  CommandComplete: 's',
  DataRow: 'V',
  ErrorResponse: 'E',
  NoticeResponse: 'E',
  CopyInResponse: 'bH',
  CopyOutResponse: 'bH',
  CopyBothResponse: 'bH',
  BackendKeyData: 'Ik',
  ParameterStatus: 'ss',
  RowDescription: 'R',
  FunctionCallResponse: 'v',
  ReadyForQuery: 'b',
  CopyData: 'd',
  ParameterDescription: 'L',
  NegotiateProtocolVersion: 'iS',
}

/** What a 'p' message is, by the Authentication message before it. */
type Answer = 'password' | 'sasl_initial' | 'sasl' | 'gss' | 'unknown'

/** Traces one connection. Feed both directions in the order in which the bytes went. */
export class Tracer {
  readonly #line: (line: string) => void
  readonly #options: TraceOptions
  readonly #frontend = new FrameReader({ frameBytesMax: messageBytesMax })
  readonly #backend = new FrameReader({ frameBytesMax: messageBytesMax })
  /** Bytes of untyped messages, while the frontend has not sent its StartupMessage. */
  #untyped: Buffer | null = Buffer.alloc(0)
  /** Names of one-byte answers that the backend owes. */
  #bytesOwed: string[] = []
  #answer: Answer = 'unknown'

  /** @param line gets each line as it is complete */
  constructor(line: (line: string) => void, options: TraceOptions = {}) {
    this.#line = line
    this.#options = options
  }

  /** Bytes that the client sent. Throws ProxyError where they are no frames. */
  frontend(chunk: Buffer): void {
    let bytes = chunk
    if (this.#untyped !== null) {
      bytes = Buffer.concat([this.#untyped, chunk])
      while (this.#untyped !== null) {
        if (bytes.length < 8 || bytes.length < bytes.readUInt32BE(0)) {
          this.#untyped = bytes
          return
        }
        const end = Math.max(8, bytes.readUInt32BE(0))
        this.#startup(bytes.subarray(0, end))
        bytes = bytes.subarray(end)
      }
    }
    this.#frames('F', this.#frontend, bytes)
  }

  /** Bytes that the server sent. Throws ProxyError where they are no frames. */
  backend(chunk: Buffer): void {
    let at = 0
    while (this.#bytesOwed.length > 0 && at < chunk.length) {
      const name = this.#bytesOwed.shift() ?? ''
      this.#line(`B\t1\t${name}\t${byte1(chunk[at] as number)}`)
      at++
    }
    this.#frames('B', this.#backend, chunk.subarray(at))
  }

  #startup(bytes: Buffer): void {
    const body = new BodyReader('StartupMessage', bytes, 4, bytes.length)
    const code = body.u32()
    const version = ` ${code >>> 16} ${code & 0xffff}`
    let text = `StartupMessage\t${version}`
    if (code === requestCodes.SSLRequest) {
      text = `SSLRequest\t${version}`
      this.#bytesOwed.push('SSLResponse')
    } else if (code === requestCodes.GSSENCRequest) {
      text = `GSSENCRequest\t${version}`
      this.#bytesOwed.push('GSSENCResponse')
    } else {
      this.#untyped = null
      const cancel = code === requestCodes.CancelRequest
      if (cancel) text = `CancelRequest\t${version}${this.#fields('Ik', body)}`
      else text += pairs(body)
    }
    this.#line(`F\t${bytes.length}\t${text}`)
  }

  #frames(side: 'F' | 'B', reader: FrameReader, chunk: Buffer): void {
    reader.push(chunk)
    for (;;) {
      const found = reader.next()
      if (found !== 'frame') return
      const [name, layout] =
        side === 'F' ? this.#frontendLayout(reader) : this.#backendLayout(reader)
      const body = BodyReader.of(name, reader)
      let text = name
      try {
        if (name === 'Authentication') text = this.#authentication(body)
        else if (layout !== undefined) text += `\t${this.#fields(layout, body)}`
        body.finish()
      } catch (error) {
        if (!(error instanceof ProxyError)) throw error
        text = `${name}\t malformed: ${error.message}`
      }
      const hidden = this.#options.regress === true && layout === 'E'
      this.#line(`${side}\t${hidden ? 'NN' : reader.declaredBytes}\t${text}`)
    }
  }

  #frontendLayout(reader: FrameReader): [string, string | undefined] {
    const name = frontendMessageName(reader.type)
    if (name === null) return [`Unknown message: ${hex(reader.type)}`, 'd']
    if (name !== 'PasswordMessage') return [name, frontendLayouts[name]]
    const answer = this.#answer
    this.#answer = 'unknown'
    switch (answer) {
      case 'password':
        return ['PasswordMessage', 'p']
      case 'sasl_initial':
        return ['SASLInitialResponse', 'sw']
      case 'sasl':
        return ['SASLResponse', 'D']
      case 'gss':
        return ['GSSResponse', 'D']
      case 'unknown':
        return ['UnknownAuthenticationResponse', 'D']
    }
  }

  #backendLayout(reader: FrameReader): [string, string | undefined] {
    const name = backendMessageName(reader.type)
    if (name === null) return [`Unknown message: ${hex(reader.type)}`, 'd']
    return [name, backendLayouts[name]]
  }

  #authentication(body: BodyReader): string {
    const code = body.i32()
    const name = authenticationNames[code] ?? `Unknown authentication message ${code}`
    this.#answer = answers[code] ?? 'unknown'
    switch (code) {
      case authenticationCodes.SASL: {
        let text = `${name}\t`
        for (;;) {
          const mechanism = body.displayString()
          text += quoted(mechanism)
          if (mechanism === '') return text
        }
      }
      case authenticationCodes.MD5Password:
      case authenticationCodes.GSSContinue:
      case authenticationCodes.SASLContinue:
      case authenticationCodes.SASLFinal:
        return `${name}\t${this.#secret(body, body.remainingBytes)}`
      default:
        return name
    }
  }

  #fields(layout: string, body: BodyReader): string {
    let text = ''
    for (const letter of layout) text += this.#field(letter, body)
    return text
  }

  #field(letter: string, body: BodyReader): string {
    const regress = this.#options.regress === true
    switch (letter) {
      case 'b':
        return byte1(body.u8())
      case 'h':
        return ` ${body.u16()}`
      case 'i':
        return ` ${body.i32()}`
      case 'I': {
        const value = body.i32()
        return regress ? ' NNNN' : ` ${value}`
      }
      case 's':
        return quoted(body.displayString())
      case 'd':
        return regress
          ? (body.skip(body.remainingBytes), " 'BBBB'")
          : data(body, body.remainingBytes)
      case 'H':
        return this.#counted(body, 'h')
      case 'L':
        return this.#counted(body, 'I')
      case 'V':
        return this.#counted(body, 'v')
      case 'R':
        return this.#counted(body, 'sIhIhih')
      case 'v': {
        const bytes = body.i32()
        return bytes === -1 ? ' -1' : ` ${bytes}${data(body, bytes)}`
      }
      case 'S': {
        const count = body.i32()
        let text = ` ${count}`
        for (let index = 0; index < count; index++) text += quoted(body.displayString())
        return text
      }
      case 'E':
        return this.#report(body)
      default:
        return this.#hidden(letter, body)
    }
  }

  /** Fields that are secrets: k cancel secret, p password, w SASL initial response, D SASL data. */
  #hidden(letter: string, body: BodyReader): string {
    switch (letter) {
      case 'k':
        if (body.remainingBytes !== 4) return this.#secret(body, body.remainingBytes)
        return this.#options.regress === true || this.#options.secrets !== true
          ? (body.skip(4), ' NNNN')
          : ` ${body.i32()}`
      case 'p': {
        const password = body.displayString()
        return this.#options.secrets === true ? quoted(password) : ' "SSSS"'
      }
      case 'w': {
        const bytes = body.i32()
        return bytes === -1 ? ' -1' : ` ${bytes}${this.#secret(body, bytes)}`
      }
      default:
        return this.#secret(body, body.remainingBytes)
    }
  }

  #secret(body: BodyReader, bytes: number): string {
    if (this.#options.secrets === true && this.#options.regress !== true) return data(body, bytes)
    body.skip(bytes)
    return " 'BBBB'"
  }

  #counted(body: BodyReader, layout: string): string {
    const count = body.u16()
    let text = ` ${count}`
    for (let index = 0; index < count; index++) text += this.#fields(layout, body)
    return text
  }

  #report(body: BodyReader): string {
    let text = ''
    for (;;) {
      const letter = body.u8()
      text += byte1(letter)
      if (letter === 0) return text
      const value = body.displayString()
      const hidden = this.#options.regress === true && 'LFR'.includes(String.fromCharCode(letter))
      text += hidden ? ' "SSSS"' : quoted(value)
    }
  }
}

const authenticationNames: Readonly<Record<number, string>> = Object.fromEntries(
  Object.entries(authenticationCodes).map(([name, code]) => [code, `Authentication${name}`]),
)

const answers: Readonly<Record<number, Answer>> = {
  [authenticationCodes.CleartextPassword]: 'password',
  [authenticationCodes.MD5Password]: 'password',
  [authenticationCodes.GSS]: 'gss',
  [authenticationCodes.GSSContinue]: 'gss',
  [authenticationCodes.SSPI]: 'gss',
  [authenticationCodes.SASL]: 'sasl_initial',
  [authenticationCodes.SASLContinue]: 'sasl',
}

function pairs(body: BodyReader): string {
  let text = ''
  for (;;) {
    const name = body.displayString()
    if (name === '') return text
    text += quoted(name) + quoted(body.displayString())
  }
}

function quoted(value: string): string {
  // libpq prints the bytes as they are; control characters could drive the reader's terminal.
  return ` "${value.replaceAll(/[\x00-\x08\x0b-\x1f\x7f]/g, (c) => `\\x${hex(c.charCodeAt(0))}`)}"`
}

function byte1(byte: number): string {
  return byte >= 0x20 && byte < 0x7f ? ` ${String.fromCharCode(byte)}` : ` \\x${hex(byte)}`
}

function data(body: BodyReader, bytes: number): string {
  let text = ''
  for (const byte of body.bytesView(bytes)) {
    text += byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : `\\x${hex(byte)}`
  }
  return ` '${text}'`
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, '0')
}
