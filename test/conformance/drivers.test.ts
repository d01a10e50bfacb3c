/**
 * The drivers that are installed, directly and through regate. `npm run test:drivers` installs
 * all of them (as root, on Debian), and writes the table of docs/drivers.md.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { drivers, startBench, versionOf, type Bench } from './drivers.ts'

let bench: Bench

beforeAll(async () => {
  bench = await startBench()
})

afterAll(async () => {
  await bench.stop()
})

describe('what a driver sees through regate is what it sees directly:', () => {
  for (const driver of drivers) {
    it.skipIf(versionOf(driver) === null)(
      driver.name,
      async () => {
        const result = await bench.compare(driver)
        expect(result?.trouble).toBe('')
        expect(result?.features.length).toBeGreaterThan(5)
        for (const { feature, direct, through } of result?.features ?? []) {
          expect({ feature, saw: through }).toEqual({ feature, saw: direct })
        }
      },
      400_000,
    )
  }
})
