import { readFileSync } from 'node:fs'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'

describe('/metrics', () => {
  let postgres: TestPostgres
  let proxy: ProxyInProcess
  let text: string

  const value = (line: string): number => {
    const found = text.split('\n').find((one) => one.startsWith(`${line} `))
    if (found === undefined) throw new Error(`no ${line} in\n${text}`)
    return Number(found.split(' ').at(-1))
  }

  beforeAll(async () => {
    postgres = await startPostgres()
    const owner = new pg.Client({ connectionString: postgres.url() })
    await owner.connect()
    await owner.query('CREATE TABLE people (id int PRIMARY KEY, ssn text)')
    await owner.query("INSERT INTO people SELECT n, 's' || n FROM generate_series(1, 20) n")
    await owner.end()
    proxy = await startProxy(postgres, {
      users: { ann: { groups: ['agents'] } },
      data: {
        regate: {
          columns: { 'public.people.ssn': { class: 'pii', mask: { kind: 'redact' } } },
          groups: { agents: { read: ['*'], write: [], ddl: 'deny', unmask: [], infer: false } },
        },
      },
      configuration: {
        audit: { directory: 'audit', sinks: [{ kind: 'file', path: 'copy.ndjson' }] },
        // Nobody listens there: only the names of its metrics are looked at.
        traces: { url: 'http://127.0.0.1:9/v1/traces', ratio: 0 },
      },
    })
    const client = new pg.Client({ connectionString: proxy.url('postgres', 'ann') })
    await client.connect()
    for (let round = 0; round < 5; round++) await client.query('SELECT id FROM people')
    await client.query('SELECT ssn FROM people LIMIT 3')
    await client.query('DELETE FROM people').catch(() => undefined)
    await client.query('SELEC').catch(() => undefined)
    await client.query('SELECT 1/0').catch(() => undefined)
    text = await (await fetch(`${proxy.adminUrl}/metrics`)).text()
    await client.end()
  })
  afterAll(async () => {
    await proxy.stop()
    await postgres.stop()
  })

  test('statements are counted by kind, action and rule, each once', () => {
    const lines = text.split('\n').filter((line) => line.startsWith('regate_statements_total{'))
    const count = (part: string): number =>
      lines
        .filter((line) => line.includes(part))
        .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0)
    expect(count('action="mask"')).toBe(1)
    expect(count('kind="delete",action="deny"')).toBe(1)
    expect(count('kind="unparsed",action="deny",rule="regate.parse"')).toBe(1)
    expect(count('action="allow"')).toBe(6)
    expect(value('regate_process_statements_total{process="main"}')).toBe(9)
  })

  test('rows, masked rows and errors are counted', () => {
    expect(value('regate_rows_total')).toBe(103)
    expect(value('regate_masked_rows_total')).toBe(3)
    // The two refusals never reached the server as they were: 1/0 is its only own error.
    expect(value('regate_server_errors_total')).toBe(1)
    expect(value('regate_result_bytes_total')).toBeGreaterThan(100)
  })

  test('histograms are whole: bounds grow, counts do not fall, the last is all', () => {
    const name = 'regate_upstream_seconds'
    const buckets = [...text.matchAll(/^regate_upstream_seconds_bucket\{le="([^"]+)"\} (\d+)/gm)]
    const bounds = buckets.map(([, le]) => (le === '+Inf' ? Number.POSITIVE_INFINITY : Number(le)))
    const counts = buckets.map(([, , count]) => Number(count))
    expect(bounds.length).toBeGreaterThan(10)
    expect(bounds).toEqual([...bounds].sort((a, b) => a - b))
    expect(counts).toEqual([...counts].sort((a, b) => a - b))
    expect(counts.at(-1)).toBe(value(`${name}_count`))
    expect(counts.at(-1)).toBe(7)
    expect(value(`${name}_sum`)).toBeGreaterThan(0)
    expect(value('regate_stage_seconds_count{stage="parse"}')).toBeGreaterThanOrEqual(4)
    expect(value('regate_stage_seconds_count{stage="audit"}')).toBeGreaterThanOrEqual(7)
  })

  test('a verdict that was known is a hit', () => {
    const hits = value('regate_verdict_cache_lookups_total{outcome="hit"}')
    const misses = value('regate_verdict_cache_lookups_total{outcome="miss"}')
    expect(hits).toBeGreaterThanOrEqual(1)
    expect(misses).toBeGreaterThanOrEqual(4)
  })

  test('every metric that the dashboard, the alerts and the guide name is there, and back', () => {
    const there = new Set(
      [...text.matchAll(/^# TYPE (\S+) (\w+)/gm)].flatMap(([, name = '', kind]) =>
        kind === 'histogram' ? [`${name}_bucket`, `${name}_count`, `${name}_sum`] : [name],
      ),
    )
    for (const path of ['deploy/grafana/regate.json', 'deploy/prometheus/alerts.yml']) {
      const named = new Set(readFileSync(path, 'utf8').match(/\bregate_[a-z0-9_]+/g) ?? [])
      expect(named.size).toBeGreaterThan(5)
      expect([...named].filter((name) => !there.has(name))).toEqual([])
    }
    const guide = readFileSync('docs/guides/metrics.md', 'utf8')
    const described = new Set(guide.match(/\bregate_[a-z0-9_]+/g) ?? [])
    const metrics = [...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name = '']) => name)
    expect([...described].filter((name) => !metrics.includes(name))).toEqual([])
    // Node's own are described together.
    const own = metrics.filter((name) => !/^regate_(nodejs|process)_/.test(name))
    expect(own.filter((name) => !described.has(name))).toEqual([])
  })
})
