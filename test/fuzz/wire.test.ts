/** The short run of the wire fuzzer, and every input that ever broke a property. */
import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { check } from './check.ts'
import { recorded, surfaces, type Surface } from './streams.ts'
import { fuzz } from './wire.fuzz.ts'

const crashers = new URL('crashers/', import.meta.url)

describe('the wire, fuzzed', () => {
  it('holds its properties for 10,000 seeded inputs', () => {
    const { crashers: found } = fuzz({ seed: 20_260_101, executions: 10_000 })
    expect(found.map((crasher) => String(crasher.error))).toEqual([])
  })

  it.each(surfaces)('holds them for recorded %s streams, cut all along', (surface) => {
    for (const bytes of recorded[surface]) {
      for (let at = 0; at <= bytes.length; at += 1 + (bytes.length >> 6)) {
        check(surface, bytes, [at])
      }
    }
  })

  it('holds them for every saved crasher', () => {
    for (const file of readdirSync(crashers).filter((name) => name.endsWith('.json'))) {
      const record = JSON.parse(readFileSync(new URL(file, crashers), 'utf8')) as {
        surface: Surface
        bytes: string
        cuts: number[]
      }
      check(record.surface, Buffer.from(record.bytes, 'hex'), record.cuts)
    }
  })
})
