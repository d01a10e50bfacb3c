/**
 * What a client names and what it sends ahead takes memory of regate's: all of it has a limit, and a
 * statement whose judgement was given up to make room is judged again when it runs.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  encodeBind,
  encodeDescribe,
  encodeExecute,
  encodeParse,
  encodeQuery,
  encodeSync,
  type ByteWriter,
} from '../../src/wire/wire.ts'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'
import { ready, WireClient, type Answer } from './refusals-client.ts'

let server: TestPostgres
let proxy: ProxyInProcess

beforeAll(async () => {
  server = await startPostgres()
  await execute(
    server,
    `CREATE TABLE people AS SELECT n, 'S3CR3T' AS ssn FROM generate_series(1, 9) n`,
  )
  proxy = await startProxy(server, {
    groups: ['agents'],
    data: {
      regate: {
        columns: { 'public.people.ssn': { class: 'pii', mask: { kind: 'redact' } } },
        groups: { agents: { read: ['*'], write: ['*'] } },
      },
    },
    limits: {
      ...{ preparedCountMax: 8, portalCountMax: 8, namedBytesMax: 100_000 },
      ...{ judgementBytesMax: 30_000, pipelineBytesMax: 50_000 },
    },
  })
})
afterAll(async () => {
  await proxy.stop()
  await server.stop()
})

async function withClient<T>(work: (client: WireClient) => Promise<T>): Promise<T> {
  const client = await WireClient.connect(proxy.url('postgres', 'agent'))
  try {
    return await work(client)
  } finally {
    await client.close()
  }
}

const errorsOf = (answers: readonly Answer[]): readonly (string | undefined)[] =>
  answers.filter(({ type }) => type === 'E').map(({ error }) => error?.get('C'))
const query = (text: string) => (to: ByteWriter) => encodeQuery(to, text)
const long = (text: string, bytes: number): string => `${text} /* ${'x'.repeat(bytes)} */`

describe('by name', () => {
  it('PREPARE and DECLARE count as Parse and Bind do', async () => {
    await withClient(async (client) => {
      const codes: (string | undefined)[] = []
      for (let n = 0; n < 10; n++)
        codes.push(...errorsOf(await client.exchange(query(`PREPARE p${n} AS SELECT ${n}`))))
      expect(codes).toEqual(['54000', '54000'])
      const parsed = await client.exchange((to) => {
        encodeParse(to, { name: 'one_more', text: 'SELECT 1' })
        encodeSync(to)
      })
      expect(errorsOf(parsed)).toEqual(['54000'])
      expect(errorsOf(await client.exchange(query('DEALLOCATE ALL')))).toEqual([])
      expect(errorsOf(await client.exchange(query('PREPARE again AS SELECT 1')))).toEqual([])
    })
    await withClient(async (client) => {
      await client.exchange(query('BEGIN'))
      const codes: (string | undefined)[] = []
      for (let n = 0; n < 9; n++)
        codes.push(...errorsOf(await client.exchange(query(`DECLARE c${n} CURSOR FOR SELECT 1`))))
      expect(codes).toEqual(['54000'])
    })
  })

  it('several in one query string are counted together', async () => {
    await withClient(async (client) => {
      const all = Array.from({ length: 9 }, (_, n) => `PREPARE p${n} AS SELECT ${n}`).join(';')
      expect(errorsOf(await client.exchange(query(all)))).toEqual(['54000'])
    })
  })

  it.each(['Parse', 'PREPARE', 'in one segment'])('bytes have a limit: %s', async (how) => {
    await withClient(async (client) => {
      const codes: (string | undefined)[] = []
      const parse = (to: ByteWriter, n: number): void =>
        encodeParse(to, { name: `s${n}`, text: long(`SELECT ${n}`, 30_000) })
      const wide = `SELECT ${Array.from({ length: 80 }, () => '1').join()}`
      if (how === 'in one segment') {
        const answers = await client.exchange((to) => {
          for (let n = 0; n < 5; n++) parse(to, n)
          encodeSync(to)
        })
        codes.push(...errorsOf(answers))
        expect(answers.filter(({ type }) => type === '1')).toHaveLength(3)
      } else {
        for (let n = 0; n < 5; n++) {
          const answers = await client.exchange((to) => {
            if (how === 'PREPARE') encodeQuery(to, `PREPARE s${n} AS ${wide}`)
            else {
              parse(to, n)
              encodeSync(to)
            }
          })
          codes.push(...errorsOf(answers))
        }
      }
      expect(codes.length).toBeGreaterThan(0)
      expect(new Set(codes)).toEqual(new Set(['54000']))
      expect(errorsOf(await client.exchange(query('DEALLOCATE ALL')))).toEqual([])
      const again = await client.exchange((to) => {
        parse(to, 7)
        encodeSync(to)
      })
      expect(errorsOf(again)).toEqual([])
    })
  })

  it('replaced, closed and failed ones give their bytes back', async () => {
    await withClient(async (client) => {
      for (let n = 0; n < 20; n++) {
        const answers = await client.exchange((to) => {
          encodeParse(to, { name: 'same', text: long('SELECT 1', 30_000) })
          // Fails: the segment is skipped, and with it the portals.
          encodeBind(to, { portal: 'p', statement: 'same', parameters: [Buffer.from('no')] })
          encodeSync(to)
          encodeQuery(to, 'DEALLOCATE ALL')
        }, ready(2))
        expect(errorsOf(answers)).toEqual(['08P01'])
      }
    })
  })

  it('the unnamed ones have no such limit', async () => {
    await withClient(async (client) => {
      const answers = await client.exchange((to) => {
        for (let n = 0; n < 10; n++) {
          encodeParse(to, { name: '', text: long('SELECT 1', 200_000) })
          encodeBind(to, { portal: '', statement: '' })
          encodeExecute(to, '')
        }
        encodeSync(to)
      })
      expect(answers.map(({ type }) => type).join('')).toBe(`${'12DC'.repeat(10)}Z`)
    })
  })
})

describe('judged again, after what was known was given up to make room', () => {
  it('gives the same, and masks the same', async () => {
    await withClient(async (client) => {
      const names = Array.from({ length: 6 }, (_, n) => `s${n}`)
      for (const [n, name] of names.entries()) {
        const columns = Array.from({ length: 30 }, (_, at) => `ssn AS c${n}_${at}`).join()
        await client.exchange((to) => {
          encodeParse(to, { name, text: `SELECT ${columns} FROM people ORDER BY n` })
          encodeDescribe(to, 'statement', name)
          encodeSync(to)
        })
      }
      const row = Array.from({ length: 30 }, () => '****').join('|')
      for (let round = 0; round < 3; round++) {
        for (const name of names) {
          const answers = await client.exchange((to) => {
            encodeBind(to, { portal: '', statement: name })
            encodeExecute(to, '', round)
            encodeSync(to)
          })
          const rows = answers.filter(({ type }) => type === 'D').map(({ text }) => text)
          expect(rows).toEqual(Array.from({ length: round === 0 ? 9 : round }, () => row))
        }
      }
    })
  })
  it('the unnamed one too, which is not kept over an idle time where it is large', async () => {
    await withClient(async (client) => {
      const columns = Array.from({ length: 200 }, (_, at) => `ssn AS c${at}`).join()
      await client.exchange((to) => {
        encodeParse(to, { name: '', text: `SELECT ${columns} FROM people ORDER BY n` })
        encodeDescribe(to, 'statement', '')
        encodeSync(to)
      })
      for (let round = 1; round < 3; round++) {
        const answers = await client.exchange((to) => {
          encodeBind(to, { portal: '', statement: '' })
          encodeExecute(to, '', round)
          encodeSync(to)
        })
        const rows = answers.filter(({ type }) => type === 'D').map(({ text }) => text)
        const row = Array.from({ length: 200 }, () => '****').join('|')
        expect(rows).toEqual(Array.from({ length: round }, () => row))
      }
    })
  })
})
