/**
 * Inputs of the wire fuzzer: valid streams made by our own encoders, streams that were recorded from
 * libpq and PostgreSQL, and what mutation makes of both.
 */
import { readdirSync, readFileSync } from 'node:fs'
import * as wire from '../../src/wire/wire.ts'
import type { ByteWriter } from '../../src/wire/wire.ts'
import type { Random } from './random.ts'

export type Surface = 'frontend' | 'backend' | 'startup'
export const surfaces: readonly Surface[] = ['frontend', 'backend', 'startup']

const golden = new URL('../unit/wire/golden/', import.meta.url)

/** Recorded streams by surface; the untyped messages that open a connection are the startup ones. */
export const recorded: Readonly<Record<Surface, readonly Buffer[]>> = readRecorded()

function readRecorded(): Record<Surface, Buffer[]> {
  const streams: Record<Surface, Buffer[]> = { frontend: [], backend: [], startup: [] }
  for (const file of readdirSync(golden)
    .filter((name) => name.endsWith('.bytes'))
    .sort()) {
    const sides: Record<string, Buffer[]> = { F: [], B: [] }
    for (const line of readFileSync(new URL(file, golden), 'utf8').trim().split('\n')) {
      sides[line.charAt(0)]?.push(Buffer.from(line.slice(2), 'hex'))
    }
    let frontend = Buffer.concat(sides['F'] ?? [])
    let backend = Buffer.concat(sides['B'] ?? [])
    while (frontend[0] === 0) {
      const end = frontend.readUInt32BE(0)
      const request = frontend.subarray(0, end)
      streams.startup.push(request)
      if (request.length === 8) backend = backend.subarray(1)
      frontend = frontend.subarray(end)
    }
    streams.frontend.push(frontend)
    streams.backend.push(backend)
  }
  return streams
}

const words = [
  '',
  'a',
  's1',
  'C_1',
  'select 1',
  'grün €',
  '𝒳',
  "it''s",
  'x'.repeat(70),
  'user',
  '_pq_.x',
]

function word(random: Random): string {
  return random.chance(80) ? random.pick(words) : random.bytes(random.below(9)).toString('hex')
}

function list<T>(random: Random, make: () => T): T[] {
  return Array.from({ length: random.below(random.chance(5) ? 40 : 4) }, make)
}

const value = (random: Random) => (random.chance(20) ? null : random.bytes(random.below(12)))
const code = (random: Random) => random.below(2)

/** One valid message of the surface, appended. */
export function writeMessage(random: Random, surface: Surface, writer: ByteWriter): void {
  const makers = { frontend: frontendMakers, backend: backendMakers, startup: startupMakers }
  random.pick<Maker>(makers[surface])(writer, random)
}

type Maker = (writer: ByteWriter, random: Random) => void

const frontendMakers: readonly Maker[] = [
  (w, r) => wire.encodeQuery(w, word(r)),
  (w, r) =>
    wire.encodeParse(w, { name: word(r), text: word(r), parameterTypes: list(r, () => r.u32()) }),
  (w, r) =>
    wire.encodeBind(w, {
      portal: word(r),
      statement: word(r),
      parameterFormats: list(r, () => code(r)),
      parameters: list(r, () => value(r)),
      resultFormats: list(r, () => code(r)),
    }),
  (w, r) => wire.encodeDescribe(w, r.pick(['statement', 'portal']), word(r)),
  (w, r) => wire.encodeClose(w, r.pick(['statement', 'portal']), word(r)),
  (w, r) => wire.encodeExecute(w, word(r), r.u32() | 0),
  (w) => wire.encodeSync(w),
  (w) => wire.encodeFlush(w),
  (w) => wire.encodeTerminate(w),
  (w, r) => wire.encodeCopyData(w, r.bytes(r.below(60))),
  (w) => wire.encodeCopyDone(w),
  (w, r) => wire.encodeCopyFail(w, word(r)),
  (w, r) => wire.encodePassword(w, word(r)),
  (w, r) => wire.encodeSaslInitialResponse(w, word(r), value(r)),
  (w, r) => wire.encodeSaslResponse(w, r.bytes(r.below(40))),
  (w, r) =>
    wire.encodeFunctionCall(w, {
      functionOid: r.u32(),
      argumentFormats: list(r, () => code(r)),
      arguments: list(r, () => value(r)),
      resultFormat: code(r),
    }),
]

const backendMakers: readonly Maker[] = [
  (w, r) =>
    wire.encodeRowDescription(
      w,
      list(r, () => ({
        name: word(r),
        relation: r.u32(),
        attribute: (r.u32() << 16) >> 16,
        type: r.u32(),
        typeBytes: (r.u32() << 16) >> 16,
        modifier: r.u32() | 0,
        format: code(r),
      })),
    ),
  (w, r) =>
    wire.encodeDataRow(
      w,
      list(r, () => value(r)),
    ),
  (w, r) => wire.encodeCommandComplete(w, word(r)),
  (w, r) => wire.encodeReadyForQuery(w, r.pick(['idle', 'transaction', 'failed'])),
  (w, r) => wire.encodeParameterStatus(w, word(r), word(r)),
  (w, r) => wire.encodeBackendKeyData(w, r.u32() | 0, r.bytes(4 + r.below(40))),
  (w, r) => wire.encodeNotification(w, r.u32() | 0, word(r), word(r)),
  (w, r) =>
    wire.encodeParameterDescription(
      w,
      list(r, () => r.u32()),
    ),
  (w, r) =>
    wire.encodeCopyResponse(
      w,
      r.pick(['in', 'out', 'both']),
      code(r),
      list(r, () => code(r)),
    ),
  (w, r) => wire.encodeFunctionCallResponse(w, value(r)),
  (w, r) =>
    wire.encodeNegotiateProtocolVersion(
      w,
      0x0003_0002,
      list(r, () => word(r)),
    ),
  (w, r) =>
    wire.encodeErrorResponse(w, {
      severity: 'ERROR',
      sqlstate: '42501',
      message: word(r),
      detail: word(r),
    }),
  (w, r) =>
    wire.encodeNotice(w, {
      severity: 'NOTICE',
      sqlstate: '00000',
      message: word(r),
      position: r.below(99),
    }),
  (w, r) => wire.encodeCopyData(w, r.bytes(r.below(60))),
  (w, r) =>
    wire.encodeEmpty(
      w,
      r.pick([
        'ParseComplete',
        'BindComplete',
        'CloseComplete',
        'NoData',
        'PortalSuspended',
        'CopyDone',
        'EmptyQueryResponse',
      ]),
    ),
  (w, r) => wire.encodeAuthentication(w, authentication(r)),
]

function authentication(r: Random): wire.Authentication {
  return r.pick<wire.Authentication>([
    { kind: 'ok' },
    { kind: 'cleartext_password' },
    { kind: 'md5_password', salt: r.bytes(4) },
    { kind: 'sasl', mechanisms: list(r, () => `M${word(r)}`) },
    { kind: 'sasl_continue', data: r.bytes(r.below(40)) },
    { kind: 'sasl_final', data: r.bytes(r.below(40)) },
    { kind: 'gss_continue', data: r.bytes(r.below(9)) },
  ])
}

const startupMakers: readonly Maker[] = [
  (w) => wire.encodeSslRequest(w),
  (w) => wire.encodeGssencRequest(w),
  (w, r) => wire.encodeCancelRequest(w, r.u32() | 0, r.bytes(4 + r.below(60))),
  (w, r) => {
    const names = [...new Set(list(r, () => `n${word(r)}`).map((name) => name.toLowerCase()))]
    const version = r.pick([0x0003_0000, 0x0003_0002, 0x0003_270f, 0x0002_0000])
    wire.encodeStartup(
      w,
      version,
      names.map((name) => [name, word(r)]),
    )
  },
]

/** An input: valid, mutated, truncated, spliced or plain noise. */
export function input(random: Random, surface: Surface): Buffer {
  if (random.chance(5)) return random.bytes(random.below(300))
  let bytes = valid(random, surface)
  if (random.chance(15)) return bytes
  if (random.chance(15)) bytes = splice(random, bytes, valid(random, random.pick(surfaces)))
  if (random.chance(20)) bytes = bytes.subarray(0, random.below(bytes.length + 1))
  if (random.chance(70)) bytes = mutate(random, bytes)
  return bytes
}

/**
 * A message whose length is right and whose body is a soup of plausible fields: what byte flips in
 * valid messages rarely reach, a hostile count or length where everything else fits.
 */
export function soup(random: Random, surface: Surface): Buffer {
  return wire.written((writer) => {
    if (surface === 'startup') {
      writer.beginUntyped()
      writer.u32(random.pick([0x0003_0000, 0x0003_0002, wire.requestCodes.CancelRequest]))
      for (let n = random.below(6); n > 0; n--) writer.cstring(random.pick(['user', 'a', 'A', '']))
    } else {
      const types = surface === 'frontend' ? wire.frontendTypes : wire.backendTypes
      writer.begin(random.pick(Object.values<number>(types)))
      for (let n = random.below(random.pick([2, 4, 8])); n > 0; n--) soupField(random, writer)
    }
    writer.end()
  })
}

function soupField(random: Random, writer: ByteWriter): void {
  switch (random.below(6)) {
    case 0: {
      writer.cstring(random.pick(words))
      return
    }
    case 1: {
      writer.u16(random.chance(80) ? random.below(4) : random.pick(hostile))
      return
    }
    case 2: {
      writer.u32(random.chance(60) ? random.below(4) : random.pick(hostile))
      return
    }
    case 3: {
      writer.value(value(random))
      return
    }
    case 4: {
      writer.u8(random.pick([0, 0x53, 0x50, 0x49, 0x43, 0xff]))
      return
    }
    default: {
      writer.u16(1)
      writer.u32(random.pick([0xffff_ffff, 0xffff_fffe, 0xffff_fffc, 0, 1, 2, 0x7fff_ffff]))
      return
    }
  }
}

function valid(random: Random, surface: Surface): Buffer {
  if (random.chance(25)) return soup(random, surface)
  if (random.chance(10)) return random.pick(recorded[surface])
  const count = surface === 'startup' ? 1 : 1 + random.below(6)
  return wire.written((writer) => {
    for (let index = 0; index < count; index++) writeMessage(random, surface, writer)
  })
}

function splice(random: Random, a: Buffer, b: Buffer): Buffer {
  const at = random.below(a.length + 1)
  const from = random.below(b.length + 1)
  const to = from + random.below(b.length - from + 1)
  return Buffer.concat([a.subarray(0, at), b.subarray(from, to), a.subarray(at)])
}

const hostile = [
  0, 1, 2, 3, 4, 5, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe,
  0xffff_ffff,
]

function mutate(random: Random, original: Buffer): Buffer {
  const bytes = Buffer.from(original)
  if (bytes.length === 0) return bytes
  for (let rounds = 1 + random.below(3); rounds > 0; rounds--) {
    const at = random.below(bytes.length)
    switch (random.below(5)) {
      case 0:
        bytes[at] = random.u32()
        break
      case 1:
        bytes[at] = (bytes[at] as number) ^ (1 << random.below(8))
        break
      case 2:
        if (at + 4 <= bytes.length) bytes.writeUInt32BE(random.pick(hostile), at)
        break
      case 3:
        if (at + 2 <= bytes.length) bytes.writeUInt16BE(random.pick(hostile) & 0xffff, at)
        break
      default:
        bytes[at] = random.pick([0, 0xff, 0x80, 0xc0, 0x51, 0x50])
    }
  }
  return bytes
}
