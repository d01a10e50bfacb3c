import { describe, expect, it } from 'vitest'
import { redactDiagnostics } from '../../../src/masking/masking.ts'
import { ByteWriter, decodeErrorOrNotice } from '../../../src/wire/wire.ts'

function frame(type: 'E' | 'N', fields: Readonly<Record<string, string>>): Buffer {
  const writer = new ByteWriter()
  writer.begin(type.charCodeAt(0))
  for (const [letter, value] of Object.entries(fields)) {
    writer.u8(letter.charCodeAt(0))
    writer.cstring(value)
  }
  writer.u8(0)
  writer.end()
  return writer.take()
}

function redact(input: Buffer): ReadonlyMap<string, string> {
  const out = new ByteWriter()
  redactDiagnostics(input, 0, input.length, out)
  const output = out.take()
  expect(output[0]).toBe(input[0])
  return decodeErrorOrNotice({ buffer: output, start: 0, end: output.length })
}

const secret = '123-45-6789'

describe('redactDiagnostics', () => {
  it('keeps severity and SQLSTATE and nothing that could hold a value', () => {
    const letters = 'MDHWqstcdnFLR'
    const fields: Record<string, string> = { S: 'ERROR', V: 'ERROR', C: '22P02' }
    for (const letter of letters) fields[letter] = `value ${secret}`
    const result = redact(frame('E', fields))
    expect(result.get('C')).toBe('22P02')
    expect(result.get('V')).toBe('ERROR')
    expect(result.get('M')).toBe('invalid text representation')
    expect([...result.keys()].sort()).toEqual(['C', 'H', 'M', 'S', 'V'])
    expect(JSON.stringify([...result])).not.toContain(secret)
  })

  it('hides notices too', () => {
    const result = redact(frame('N', { S: 'NOTICE', V: 'NOTICE', C: '00000', M: secret }))
    expect(result.get('M')).toBe('successful completion')
    expect(result.get('S')).toBe('NOTICE')
  })

  it('does not pass a SQLSTATE or severity that code may have chosen to carry a value', () => {
    const error = redact(frame('E', { S: secret, V: 'S3CR3', C: 'S3CR3', M: 'x' }))
    expect([error.get('S'), error.get('V'), error.get('C')]).toEqual(['ERROR', 'ERROR', 'XX000'])
    const notice = redact(frame('N', { S: 'NOTICE', V: 'NOTICE', C: 'S3CR3', M: 'x' }))
    expect(notice.get('C')).toBe('01000')
  })

  it('keeps what parse analysis says of the text that the client wrote', () => {
    const fields = { S: 'ERROR', V: 'ERROR', C: '42703', M: 'column "x" does not exist', P: '8' }
    expect(redact(frame('E', fields)).get('M')).toBe('column "x" does not exist')
  })

  it('hides the same SQLSTATE raised while rows are read, or inside a function', () => {
    const fields = { S: 'ERROR', V: 'ERROR', C: '42P01', M: `relation "${secret}" does not exist` }
    for (const more of [{}, { P: '8', W: 'SQL function "f"' }, { P: '8', q: 'SELECT', p: '1' }]) {
      expect(redact(frame('E', { ...fields, ...more })).get('M')).toBe('undefined table')
    }
  })

  it('keeps no position of an error with a value', () => {
    const fields = { S: 'ERROR', V: 'ERROR', C: '22P02', M: secret, P: '9' }
    expect(redact(frame('E', fields)).has('P')).toBe(false)
  })

  it('refuses a frame without terminators', () => {
    const broken = Buffer.from('E\0\0\0\x08Mabc', 'latin1')
    expect(() => redact(broken)).toThrow('malformed')
  })
})
