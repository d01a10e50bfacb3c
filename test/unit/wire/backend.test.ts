/** Backend messages: roundtrips, hostile servers, and agreement with pg-protocol's parser. */
import { PassThrough } from 'node:stream'
import fc from 'fast-check'
import { parse } from 'pg-protocol'
import { describe, expect, it } from 'vitest'
import { ProxyError } from '../../../src/core/core.ts'
import * as wire from '../../../src/wire/wire.ts'
import { written, type ByteWriter, type FrameView } from '../../../src/wire/wire.ts'
import { frame, viewOf } from './streams.ts'

const name = fc.string({ unit: 'grapheme', maxLength: 70 }).filter((text) => !text.includes('\0'))
const oid = fc.integer({ min: 0, max: 0xffff_ffff })
const int16 = fc.integer({ min: -32768, max: 32767 })
const int32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })
const bytes = fc.uint8Array({ maxLength: 40 }).map((value) => Buffer.from(value))
const field: fc.Arbitrary<wire.Field> = fc.record({
  name,
  relation: oid,
  attribute: int16,
  type: oid,
  typeBytes: int16,
  modifier: int32,
  format: fc.constantFrom(0, 1),
})

const view = (write: (writer: ByteWriter) => void): FrameView => viewOf(written(write))

function sqlstateOf(run: () => unknown): string {
  try {
    run()
  } catch (error) {
    if (error instanceof ProxyError) return error.sqlstate
    throw error
  }
  return 'none'
}

describe('backend messages', () => {
  it('decode to what was encoded', () => {
    fc.assert(
      fc.property(fc.array(field, { maxLength: 8 }), name, name, int32, (fields, a, b, id) => {
        expect(
          wire.decodeRowDescription(view((w) => wire.encodeRowDescription(w, fields))),
        ).toEqual(fields)
        expect(
          wire.decodeParameterStatus(view((w) => wire.encodeParameterStatus(w, a, b))),
        ).toEqual({ name: a, value: b })
        expect(wire.decodeCommandComplete(view((w) => wire.encodeCommandComplete(w, a)))).toBe(a)
        expect(wire.decodeNotification(view((w) => wire.encodeNotification(w, id, a, b)))).toEqual({
          processId: id,
          channel: a,
          payload: b,
        })
      }),
    )
  })

  it('decode rows to what was encoded, as views and as offsets', () => {
    const reader = new wire.DataRowReader()
    const row = fc.array(fc.option(bytes, { nil: null }), { maxLength: 50 })
    fc.assert(
      fc.property(row, (values) => {
        const from = view((w) => wire.encodeDataRow(w, values))
        expect(wire.decodeDataRow(from)).toEqual(values)
        const count = reader.read(from)
        const read = Array.from({ length: count }, (_, i) => {
          const start = reader.starts[i]!
          return reader.bytes[i] === -1
            ? null
            : from.buffer.subarray(start, start + reader.bytes[i]!)
        })
        expect(read).toEqual(values)
      }),
    )
  })

  it('decode every transaction status, and refuse any other', () => {
    for (const status of ['idle', 'transaction', 'failed'] as const) {
      expect(wire.decodeReadyForQuery(view((w) => wire.encodeReadyForQuery(w, status)))).toBe(
        status,
      )
    }
    expect(sqlstateOf(() => wire.decodeReadyForQuery(viewOf(frame('Z', 'X'))))).toBe('08P01')
  })

  it('decode the secret of a BackendKeyData from 4 to 256 bytes, as a copy', () => {
    for (const length of [4, 32, 256]) {
      const secret = Buffer.alloc(length, 7)
      const from = view((w) => wire.encodeBackendKeyData(w, 77, secret))
      const decoded = wire.decodeBackendKeyData(from)
      from.buffer.fill(0)
      expect(decoded).toEqual({ processId: 77, secret })
    }
    for (const length of [0, 3, 257]) {
      const from = viewOf(frame('K', Buffer.alloc(4 + length)))
      expect(sqlstateOf(() => wire.decodeBackendKeyData(from))).toBe('08P01')
    }
  })

  it('decode every Authentication message', () => {
    const data = Buffer.from('data')
    const all: wire.Authentication[] = [
      { kind: 'ok' },
      { kind: 'kerberos_v5' },
      { kind: 'cleartext_password' },
      { kind: 'md5_password', salt: data },
      { kind: 'gss' },
      { kind: 'gss_continue', data },
      { kind: 'sspi' },
      { kind: 'sasl', mechanisms: ['SCRAM-SHA-256-PLUS', 'SCRAM-SHA-256', 'OAUTHBEARER'] },
      { kind: 'sasl', mechanisms: [] },
      { kind: 'sasl_continue', data },
      { kind: 'sasl_final', data },
    ]
    for (const message of all) {
      expect(wire.decodeAuthentication(view((w) => wire.encodeAuthentication(w, message)))).toEqual(
        message,
      )
    }
    for (const code of [1, 4, 6, 13, 99, -1]) {
      const body = Buffer.alloc(4)
      body.writeInt32BE(code)
      expect(sqlstateOf(() => wire.decodeAuthentication(viewOf(frame('R', body))))).toBe('08P01')
    }
  })

  it('decode copy responses, descriptions of parameters, function results, negotiation', () => {
    for (const direction of ['in', 'out', 'both'] as const) {
      const from = view((w) => wire.encodeCopyResponse(w, direction, 1, [1, 1]))
      expect(wire.decodeCopyResponse(from)).toEqual({ format: 1, columnFormats: [1, 1] })
    }
    const types = view((w) => wire.encodeParameterDescription(w, [23, 0xffff_ffff]))
    expect(wire.decodeParameterDescription(types)).toEqual([23, 0xffff_ffff])
    for (const value of [null, Buffer.alloc(0), Buffer.from('x')]) {
      const from = view((w) => wire.encodeFunctionCallResponse(w, value))
      expect(wire.decodeFunctionCallResponse(from)).toEqual(value)
    }
    const options = ['_pq_.one', '_pq_.two']
    const from = view((w) => wire.encodeNegotiateProtocolVersion(w, 0x0003_0002, options))
    expect(wire.decodeNegotiateProtocolVersion(from)).toEqual({
      version: 0x0003_0002,
      unrecognizedOptions: options,
    })
  })

  it('report an error with every field in its place', () => {
    const from = view((w) =>
      wire.encodeErrorResponse(w, {
        severity: 'ERROR',
        sqlstate: '42501',
        message: 'no',
        detail: 'why',
        hint: 'how',
        position: 8,
      }),
    )
    expect(Object.fromEntries(wire.decodeErrorOrNotice(from))).toEqual({
      S: 'ERROR',
      V: 'ERROR',
      C: '42501',
      M: 'no',
      D: 'why',
      H: 'how',
      P: '8',
    })
  })

  it('can always report: a NUL in a text is replaced, absent fields are left out', () => {
    const from = view((w) =>
      wire.encodeNotice(w, {
        severity: 'NOTICE',
        sqlstate: '00000',
        message: 'a\0b',
        detail: null,
      }),
    )
    expect([...wire.decodeErrorOrNotice(from)]).toEqual([
      ['S', 'NOTICE'],
      ['V', 'NOTICE'],
      ['C', '00000'],
      ['M', 'a\ufffdb'],
    ])
  })

  it('write a decoded report again, field by field', () => {
    const fields = new Map([
      ['S', 'ERROR'],
      ['C', '22012'],
      ['z', 'a field of the future'],
    ])
    const type = wire.backendTypes.ErrorResponse
    const from = view((w) => wire.encodeReportFields(w, type, fields))
    expect(wire.decodeErrorOrNotice(from)).toEqual(fields)
  })
})

describe('malformed backend messages', () => {
  it.each<[string, (from: FrameView) => unknown, string]>([
    ['RowDescription that counts fields it has not', wire.decodeRowDescription, '\xff\xff'],
    ['RowDescription without count', wire.decodeRowDescription, '\0'],
    ['RowDescription with bytes after its end', wire.decodeRowDescription, '\0\0x'],
    ['DataRow that counts columns it has not', wire.decodeDataRow, '\xff\xff'],
    ['DataRow with a value of 2³¹-1 bytes', wire.decodeDataRow, '\0\x01\x7f\xff\xff\xffx'],
    ['DataRow with a value of -2 bytes', wire.decodeDataRow, '\0\x01\xff\xff\xff\xfe'],
    ['DataRow with bytes after its end', wire.decodeDataRow, '\0\x01\xff\xff\xff\xff\0'],
    ['ErrorResponse without terminator', wire.decodeErrorOrNotice, 'SERROR\0'],
    ['ErrorResponse with bytes after its end', wire.decodeErrorOrNotice, 'SERROR\0\0x'],
    ['ParameterStatus without value', wire.decodeParameterStatus, 'name\0'],
    ['CommandComplete without terminator', wire.decodeCommandComplete, 'SELECT 1'],
    ['ReadyForQuery without status', wire.decodeReadyForQuery, ''],
    ['CopyResponse that counts columns it has not', wire.decodeCopyResponse, '\0\xff\xff\0\0'],
    ['ParameterDescription that is cut', wire.decodeParameterDescription, '\0\x01\0\0'],
    [
      'NegotiateProtocolVersion that counts 2³² options',
      wire.decodeNegotiateProtocolVersion,
      '\0\x03\0\0\xff\xff\xff\xffx\0',
    ],
    ['Authentication SASL without its end', wire.decodeAuthentication, '\0\0\0\x0aSCRAM\0'],
    ['Authentication MD5 with half a salt', wire.decodeAuthentication, '\0\0\0\x05ab'],
    ['Authentication Ok with a body', wire.decodeAuthentication, '\0\0\0\0x'],
  ])('%s is a protocol violation', (_case, decode, body) => {
    expect(sqlstateOf(() => decode(viewOf(frame('x', body))))).toBe('08P01')
  })

  it('DataRowReader refuses what decodeDataRow refuses', () => {
    const reader = new wire.DataRowReader()
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 30 }), (body) => {
        const from = viewOf(frame('D', body))
        expect(sqlstateOf(() => reader.read(from))).toBe(sqlstateOf(() => wire.decodeDataRow(from)))
      }),
      { numRuns: 2000 },
    )
  })

  it('shows text that is not UTF-8 with replacements, because it is never judged by', () => {
    expect(wire.decodeCommandComplete(viewOf(frame('C', 'a\xffb\0')))).toBe('a\ufffdb')
  })
})

describe('backend messages agree with pg-protocol', () => {
  it('which parses all of ours', async () => {
    const stream = new PassThrough()
    const messages: Record<string, unknown>[] = []
    const done = parse(stream, (message) => messages.push({ ...message }))
    const fieldOfId = {
      name: 'id',
      relation: 16_384,
      attribute: -6,
      type: 23,
      typeBytes: 4,
      modifier: -1,
      format: 1,
    }
    stream.end(
      written((w) => {
        wire.encodeAuthentication(w, { kind: 'sasl', mechanisms: ['SCRAM-SHA-256'] })
        wire.encodeParameterStatus(w, 'TimeZone', 'UTC')
        wire.encodeBackendKeyData(w, 1234, Buffer.from([0, 0, 1, 2]))
        wire.encodeReadyForQuery(w, 'transaction')
        wire.encodeRowDescription(w, [fieldOfId])
        wire.encodeDataRow(w, ['zwölf', null])
        wire.encodeCommandComplete(w, 'SELECT 1')
        wire.encodeErrorResponse(w, {
          severity: 'ERROR',
          sqlstate: '42501',
          message: 'no',
          hint: 'h',
        })
        wire.encodeNotification(w, 9, 'channel', 'payload')
        wire.encodeParameterDescription(w, [23, 25])
        wire.encodeCopyResponse(w, 'out', 0, [0, 0])
        for (const message of [
          'ParseComplete',
          'BindComplete',
          'CloseComplete',
          'NoData',
          'PortalSuspended',
          'CopyDone',
          'EmptyQueryResponse',
        ] as const) {
          wire.encodeEmpty(w, message)
        }
      }),
    )
    await done
    const byName = (kind: string) => messages.find((message) => message['name'] === kind)
    expect(byName('authenticationSASL')).toMatchObject({ mechanisms: ['SCRAM-SHA-256'] })
    expect(byName('parameterStatus')).toMatchObject({
      parameterName: 'TimeZone',
      parameterValue: 'UTC',
    })
    expect(byName('backendKeyData')).toMatchObject({ processID: 1234, secretKey: 258 })
    expect(byName('readyForQuery')).toMatchObject({ status: 'T' })
    expect(byName('rowDescription')).toMatchObject({
      fields: [
        {
          name: 'id',
          tableID: 16_384,
          columnID: -6,
          dataTypeID: 23,
          dataTypeSize: 4,
          dataTypeModifier: -1,
          format: 'binary',
        },
      ],
    })
    expect(byName('dataRow')).toMatchObject({ fields: ['zwölf', null] })
    expect(byName('commandComplete')).toMatchObject({ text: 'SELECT 1' })
    expect(byName('error')).toMatchObject({ severity: 'ERROR', code: '42501', hint: 'h' })
    expect(byName('notification')).toMatchObject({
      processId: 9,
      channel: 'channel',
      payload: 'payload',
    })
    expect(byName('parameterDescription')).toMatchObject({ dataTypeIDs: [23, 25] })
    expect(byName('copyOutResponse')).toMatchObject({ binary: false, columnTypes: [0, 0] })
    expect(messages).toHaveLength(18)
  })
})
