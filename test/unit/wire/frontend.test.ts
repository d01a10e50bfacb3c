/** Frontend messages: what is encoded is decoded, what is malformed is refused, both ways with pg-protocol. */
import fc from 'fast-check'
import { serialize } from 'pg-protocol'
import { describe, expect, it } from 'vitest'
import { ProxyError } from '../../../src/core/core.ts'
import {
  decodeBind,
  decodeClose,
  decodeCopyFail,
  decodeDescribe,
  decodeEmpty,
  decodeExecute,
  decodeFunctionCall,
  decodeParse,
  decodePassword,
  decodeQuery,
  decodeSaslInitialResponse,
  decodeSaslResponse,
  encodeBind,
  encodeClose,
  encodeCopyData,
  encodeCopyDone,
  encodeCopyFail,
  encodeDescribe,
  encodeExecute,
  encodeFlush,
  encodeFunctionCall,
  encodeParse,
  encodePassword,
  encodeQuery,
  encodeSaslInitialResponse,
  encodeSaslResponse,
  encodeSync,
  encodeTerminate,
  written,
  type ByteWriter,
  type FrameView,
} from '../../../src/wire/wire.ts'
import { frame, viewOf } from './streams.ts'

const name = fc.string({ unit: 'grapheme', maxLength: 70 }).filter((text) => !text.includes('\0'))
const oid = fc.integer({ min: 0, max: 0xffff_ffff })
const code = fc.constantFrom(0, 1)
const bytes = fc.uint8Array({ maxLength: 40 }).map((value) => Buffer.from(value))
const parameters = fc.array(fc.option(bytes, { nil: null }), { maxLength: 6 })

const view = (write: (writer: ByteWriter) => void): FrameView => viewOf(written(write))
const text = (from: FrameView, start: number, end: number) =>
  from.buffer.toString('utf8', start, end)

function sqlstateOf(run: () => unknown): string {
  try {
    run()
  } catch (error) {
    if (error instanceof ProxyError) return error.sqlstate
    throw error
  }
  return 'none'
}

describe('frontend messages', () => {
  it('decode to what was encoded', () => {
    fc.assert(
      fc.property(name, name, fc.array(oid, { maxLength: 6 }), (a, b, types) => {
        const query = view((w) => encodeQuery(w, a))
        const { textStart, textEnd } = decodeQuery(query)
        expect(text(query, textStart, textEnd)).toBe(a)

        const parse = view((w) => encodeParse(w, { name: a, text: b, parameterTypes: types }))
        const parsed = decodeParse(parse)
        expect(parsed.name).toBe(a)
        expect(text(parse, parsed.textStart, parsed.textEnd)).toBe(b)
        expect(parsed.parameterTypes).toEqual(types)

        expect(decodeDescribe(view((w) => encodeDescribe(w, 'portal', a)))).toEqual({
          target: 'portal',
          name: a,
        })
        expect(decodeClose(view((w) => encodeClose(w, 'statement', a)))).toEqual({
          target: 'statement',
          name: a,
        })
        expect(decodeCopyFail(view((w) => encodeCopyFail(w, a)))).toBe(a)
        expect(decodePassword(view((w) => encodePassword(w, a)))).toBe(a)
      }),
    )
  })

  it('decode Bind and FunctionCall to what was encoded', () => {
    fc.assert(
      fc.property(name, parameters, fc.array(code), fc.array(code), oid, (a, list, f, r, o) => {
        const bind = { portal: a, statement: `s${a}`, parameters: list }
        const decoded = decodeBind(
          view((w) => encodeBind(w, { ...bind, parameterFormats: f, resultFormats: r })),
        )
        expect({ ...decoded, parameters: decoded.parameters }).toEqual({
          ...bind,
          parameterFormats: f,
          parameterCount: list.length,
          resultFormats: r,
        })
        const call = { functionOid: o, argumentFormats: f, arguments: list, resultFormat: 1 }
        expect(decodeFunctionCall(view((w) => encodeFunctionCall(w, call)))).toEqual(call)
      }),
    )
  })

  it('decode Execute with its row limit, signed', () => {
    for (const rowLimit of [0, 1, 2 ** 31 - 1, -1]) {
      const execute = decodeExecute(view((w) => encodeExecute(w, 'p', rowLimit)))
      expect(execute).toEqual({ portal: 'p', rowLimit })
    }
  })

  it('decode SASL answers; an absent initial response is not an empty one', () => {
    const initial = (response: Buffer | null) =>
      decodeSaslInitialResponse(
        view((w) => encodeSaslInitialResponse(w, 'SCRAM-SHA-256', response)),
      )
    expect(initial(null)).toEqual({ mechanism: 'SCRAM-SHA-256', response: null })
    expect(initial(Buffer.alloc(0)).response).toHaveLength(0)
    expect(initial(Buffer.from('n,,n=,r=x')).response?.toString()).toBe('n,,n=,r=x')
    expect(decodeSaslResponse(view((w) => encodeSaslResponse(w, 'c=biws'))).toString()).toBe(
      'c=biws',
    )
  })

  it('keep parameter views inside the frame: no copy, no byte of a neighbour', () => {
    const bind = view((w) => encodeBind(w, { portal: '', statement: '', parameters: ['abc', ''] }))
    const [first, second] = decodeBind(bind).parameters
    expect(first?.buffer).toBe(bind.buffer.buffer)
    expect(first?.toString()).toBe('abc')
    expect(second).toHaveLength(0)
  })
})

describe('frontend messages agree with pg-protocol', () => {
  it.each<[string, Buffer, (writer: ByteWriter) => void]>([
    ['Query', serialize.query('select $1 — ü'), (w) => encodeQuery(w, 'select $1 — ü')],
    [
      'Parse',
      serialize.parse({ name: 'n', text: 'select $1', types: [23, 25] }),
      (w) => encodeParse(w, { name: 'n', text: 'select $1', parameterTypes: [23, 25] }),
    ],
    [
      'Bind',
      serialize.bind({
        portal: 'p',
        statement: 's',
        values: ['x', null, Buffer.from([0, 255])],
        binary: true,
      }),
      (w) =>
        encodeBind(w, {
          portal: 'p',
          statement: 's',
          parameterFormats: [0, 0, 1],
          parameters: ['x', null, Buffer.from([0, 255])],
          resultFormats: [1],
        }),
    ],
    ['Execute', serialize.execute({ portal: 'p', rows: 7 }), (w) => encodeExecute(w, 'p', 7)],
    [
      'Describe',
      serialize.describe({ type: 'S', name: 's' }),
      (w) => encodeDescribe(w, 'statement', 's'),
    ],
    ['Close', serialize.close({ type: 'P', name: 'p' }), (w) => encodeClose(w, 'portal', 'p')],
    ['Sync', serialize.sync(), encodeSync],
    ['Flush', serialize.flush(), encodeFlush],
    ['Terminate', serialize.end(), encodeTerminate],
    [
      'CopyData',
      serialize.copyData(Buffer.from('1\tx\n')),
      (w) => encodeCopyData(w, Buffer.from('1\tx\n')),
    ],
    ['CopyDone', serialize.copyDone(), encodeCopyDone],
    ['CopyFail', serialize.copyFail('no'), (w) => encodeCopyFail(w, 'no')],
    ['PasswordMessage', serialize.password('secret'), (w) => encodePassword(w, 'secret')],
    [
      'SASLInitialResponse',
      serialize.sendSASLInitialResponseMessage('SCRAM-SHA-256', 'n,,n=*,r=1'),
      (w) => encodeSaslInitialResponse(w, 'SCRAM-SHA-256', 'n,,n=*,r=1'),
    ],
    [
      'SASLResponse',
      serialize.sendSCRAMClientFinalMessage('c=biws,r=1,p=2'),
      (w) => encodeSaslResponse(w, 'c=biws,r=1,p=2'),
    ],
  ])('%s', (_message, theirs, write) => {
    expect(written(write).toString('hex')).toBe(theirs.toString('hex'))
  })
})

describe('malformed frontend messages', () => {
  const decoders: Record<string, (from: FrameView) => unknown> = {
    Q: decodeQuery,
    P: decodeParse,
    B: decodeBind,
    D: decodeDescribe,
    C: decodeClose,
    E: decodeExecute,
    F: decodeFunctionCall,
    f: decodeCopyFail,
    p: decodePassword,
    i: decodeSaslInitialResponse,
    S: (from) => decodeEmpty('Sync', from),
  }

  it.each<[string, string, string]>([
    ['Query without terminator', 'Q', 'select 1'],
    ['Query that is empty', 'Q', ''],
    ['Query with a NUL inside', 'Q', 'select 1\0; drop table t\0'],
    ['Query with bytes after the terminator', 'Q', 'select 1\0x'],
    ['Query with two terminators', 'Q', 'select 1\0\0'],
    ['Parse without a count', 'P', 'n\0select 1\0'],
    ['Parse with half a count', 'P', 'n\0select 1\0\0'],
    ['Parse that counts more types than it has', 'P', 'n\0select 1\0\0\x02\0\0\0\x17'],
    ['Parse that counts 65535 types and has none', 'P', 'n\0select 1\0\xff\xff'],
    ['Parse with bytes after its end', 'P', 'n\0select 1\0\0\0x'],
    ['Parse with a NUL inside the text', 'P', 'n\0sel\0ect 1\0\0\0'],
    ['Parse without the text', 'P', 'n\0'],
    ['Bind without counts', 'B', 'p\0s\0'],
    ['Bind that counts formats it has not', 'B', 'p\0s\0\xff\xff\0\0\0\0'],
    ['Bind with a parameter longer than the message', 'B', 'p\0s\0\0\0\0\x01\0\0\0\x05abc\0\0'],
    ['Bind with a parameter of 2³¹-1 bytes', 'B', 'p\0s\0\0\0\0\x01\x7f\xff\xff\xffabc\0\0'],
    ['Bind with a parameter of -2 bytes', 'B', 'p\0s\0\0\0\0\x01\xff\xff\xff\xfe\0\0'],
    ['Bind with bytes after its end', 'B', 'p\0s\0\0\0\0\0\0\0x'],
    ['Describe of an unknown kind', 'D', 'Xname\0'],
    ['Describe without a kind', 'D', ''],
    ['Describe without terminator', 'D', 'Sname'],
    ['Describe with bytes after its end', 'D', 'Sname\0x'],
    ['Close of an unknown kind', 'C', 's\0'],
    ['Execute without a row limit', 'E', 'p\0'],
    ['Execute with bytes after its end', 'E', 'p\0\0\0\0\0\0'],
    ['FunctionCall that is cut', 'F', '\0\0\0\x01\0\0\0\x01\0\0\0\x04ab'],
    ['CopyFail without terminator', 'f', 'why'],
    ['PasswordMessage with a NUL inside', 'p', 'a\0b\0'],
    ['SASLInitialResponse that is cut', 'i', 'SCRAM-SHA-256\0\0\0\0\x09n,,'],
    ['Sync with a body', 'S', 'x'],
  ])('%s is a protocol violation', (_case, type, body) => {
    const decode = decoders[type]!
    expect(sqlstateOf(() => decode(viewOf(frame(type, body))))).toBe('08P01')
  })

  it('is every proper prefix of a valid message', () => {
    const valid: [string, Buffer][] = [
      ['Q', written((w) => encodeQuery(w, 'select 1'))],
      ['P', written((w) => encodeParse(w, { name: 'n', text: 't', parameterTypes: [1, 2] }))],
      [
        'B',
        written((w) =>
          encodeBind(w, {
            portal: 'p',
            statement: 's',
            parameterFormats: [1, 0],
            parameters: ['a', null],
            resultFormats: [1],
          }),
        ),
      ],
      ['D', written((w) => encodeDescribe(w, 'portal', 'name'))],
      ['E', written((w) => encodeExecute(w, 'portal', 1))],
      ['F', written((w) => encodeFunctionCall(w, { functionOid: 1, arguments: ['abc'] }))],
    ]
    for (const [type, bytes] of valid) {
      for (let end = 5; end < bytes.length; end++) {
        const cut = viewOf(bytes.subarray(0, end))
        expect(
          sqlstateOf(() => decoders[type]!(cut)),
          `${type} cut at ${end}`,
        ).toBe('08P01')
      }
      expect(sqlstateOf(() => decoders[type]!(viewOf(bytes)))).toBe('none')
    }
  })

  it('never reads a terminator or a length that belongs to the frame behind it', () => {
    const buffer = Buffer.concat([frame('Q', 'select 1'), Buffer.from('\0\0\0')])
    expect(sqlstateOf(() => decodeQuery({ buffer, start: 0, end: buffer.length - 3 }))).toBe(
      '08P01',
    )
  })

  it('refuses names that are not UTF-8 instead of replacing bytes: two names stay two', () => {
    for (const bad of ['\xff', '\xc0\x80', '\xed\xa0\x80', 'a\x80']) {
      expect(sqlstateOf(() => decodeDescribe(viewOf(frame('D', `S${bad}\0`))))).toBe('22021')
      expect(sqlstateOf(() => decodeParse(viewOf(frame('P', `${bad}\0x\0\0\0`))))).toBe('22021')
      expect(sqlstateOf(() => decodeBind(viewOf(frame('B', `\0${bad}\0\0\0\0\0\0\0`))))).toBe(
        '22021',
      )
    }
  })

  it('is not what the server itself must judge: counts that fit, but do not match', () => {
    const bind = view((w) =>
      encodeBind(w, { portal: '', statement: '', parameterFormats: [0, 1, 0], parameters: ['x'] }),
    )
    expect(decodeBind(bind).parameterFormats).toEqual([0, 1, 0])
  })
})

describe('encoders', () => {
  it('refuse a NUL inside a string, and leave the writer as it was', () => {
    for (const bad of [
      (w: ByteWriter) => encodeQuery(w, 'select 1\0; drop table t'),
      (w: ByteWriter) => encodeQuery(w, Buffer.from('a\0b')),
      (w: ByteWriter) => encodeParse(w, { name: 'a\0', text: '' }),
      (w: ByteWriter) => encodeBind(w, { portal: '', statement: 'x\0' }),
    ]) {
      const bytes = written((w) => {
        encodeSync(w)
        expect(sqlstateOf(() => bad(w))).toBe('08P01')
        encodeFlush(w)
      })
      expect(bytes.toString('hex')).toBe('5300000004' + '4800000004')
    }
  })

  it('send bytes of a query string untouched', () => {
    const query = Buffer.from("select 'ü' -- \xff", 'latin1')
    expect(
      written((w) => encodeQuery(w, query))
        .subarray(5, -1)
        .equals(query),
    ).toBe(true)
  })
})
