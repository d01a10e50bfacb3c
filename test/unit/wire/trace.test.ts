/**
 * Golden traces: conversations between libpq 18 and PostgreSQL 18 that a relay recorded
 * (golden/record.py), traced here and compared with what libpq's own PQtrace wrote.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { Tracer, type TraceOptions } from '../../../src/wire/wire.ts'

const golden = new URL('golden/', import.meta.url)
const names = readdirSync(golden)
  .filter((file) => file.endsWith('.bytes'))
  .map((file) => file.slice(0, -'.bytes'.length))

function pieces(name: string): { readonly side: string; readonly bytes: Buffer }[] {
  const lines = readFileSync(new URL(`${name}.bytes`, golden), 'utf8')
    .trim()
    .split('\n')
  return lines.map((line) => ({ side: line.charAt(0), bytes: Buffer.from(line.slice(2), 'hex') }))
}

/** Messages of a trace by direction: libpq notes what it sends when it queues it, a relay later. */
function bySide(messages: readonly string[]) {
  return {
    frontend: messages.filter((message) => message.startsWith('F')),
    backend: messages.filter((message) => message.startsWith('B')),
  }
}

/** libpq's trace as messages; a query string with newlines spans lines. */
function libpqMessages(name: string): string[] {
  const messages: string[] = []
  for (const line of readFileSync(new URL(`${name}.trace`, golden), 'utf8')
    .trimEnd()
    .split('\n')) {
    if (/^[FB]\t/.test(line)) messages.push(line)
    else if (line.startsWith('mismatched message length')) messages.push(`${messages.pop()}…`)
    else messages.push(`${messages.pop()}\n${line}`)
  }
  return messages
}

function trace(name: string, stepBytes: number, options: TraceOptions = { secrets: true }) {
  const lines: string[] = []
  const tracer = new Tracer((line) => lines.push(line), options)
  for (const { side, bytes } of pieces(name)) {
    for (let at = 0; at < bytes.length; at += stepBytes) {
      const step = bytes.subarray(at, at + stepBytes)
      if (side === 'F') tracer.frontend(step)
      else tracer.backend(step)
    }
  }
  return lines
}

describe.each(names)('golden trace of %s', (name) => {
  it('says what libpq says', () => {
    const expected = bySide(libpqMessages(name))
    // libpq traces every Authentication message but the last.
    const actual = bySide(trace(name, 65_536).filter((line) => line !== 'B\t8\tAuthenticationOk'))
    for (const side of ['frontend', 'backend'] as const) {
      const ours = actual[side].map((message, index) => {
        const theirs = expected[side][index] ?? ''
        // libpq does not read on here (MD5 salt, the 32 bytes of a 3.2 secret); its first field is.
        if (!theirs.endsWith('…')) return message
        const prefix = /^[^ ]*(?: \d+)?/.exec(theirs.slice(0, -1))?.[0].trimEnd() ?? ''
        return message.startsWith(prefix) ? theirs : message
      })
      expect(ours).toEqual(expected[side])
    }
  })

  it.each([1, 2, 3, 5, 7, 64])('is the same in pieces of %d bytes', (stepBytes) => {
    expect(trace(name, stepBytes)).toEqual(trace(name, 65_536))
  })

  it('hides passwords, SASL data and cancel secrets unless asked', () => {
    const secrets = trace(name, 65_536)
      .filter((line) => /Password|SASL(Initial)?Response|SASLContinue|SASLFinal/.test(line))
      .flatMap((line) => [...line.matchAll(/['"]([^'"]{20,})['"]/g)].map((match) => match[1]!))
    const shown = trace(name, 65_536, {}).join('\n')
    for (const secret of secrets) expect(shown).not.toContain(secret)
  })
})

describe('Tracer', () => {
  it('suppresses what differs between runs in regress mode', () => {
    const lines = trace('notify', 65_536, { regress: true }).join('\n')
    expect(lines).toContain('NotificationResponse\t NNNN "news" "it\'s here"')
    expect(lines).not.toMatch(/BackendKeyData\t \d/)
  })

  it('says what is malformed and goes on with the next frame', () => {
    const lines: string[] = []
    const tracer = new Tracer((line) => lines.push(line))
    tracer.backend(Buffer.from('5a0000000549' + '5a000000064949' + '3100000004', 'hex'))
    expect(lines).toEqual([
      'B\t5\tReadyForQuery\t I',
      'B\t6\tReadyForQuery\t malformed: malformed message: ReadyForQuery has 1 bytes after its end',
      'B\t4\tParseComplete',
    ])
  })
})
