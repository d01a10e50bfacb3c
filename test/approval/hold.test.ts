/** Held statements through a whole regate: node-postgres, the admin API, the webhook and its callbacks. */
import { createHmac, randomBytes } from 'node:crypto'
import { createServer, type Server } from 'node:http'
import { readdir, readFile } from 'node:fs/promises'
import { connect as connectSocket, type AddressInfo, type Socket } from 'node:net'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'
import { until } from './support.ts'

const secret = randomBytes(24).toString('hex')
const token = randomBytes(24).toString('hex')

interface Received {
  readonly body: string
  readonly headers: NodeJS.Dict<string | string[]>
}

let upstream: TestPostgres
let proxy: ProxyInProcess
let receiver: Server
const received: Received[] = []
/** What the receiver answers; for the tests of a receiver that is ill. */
let answerStatus = 200

const waits = { wait: '90s', ttl: '120s' }

const data = {
  regate: {
    approvals: { groups: ['dba'], quorum: 1, ...waits },
    columns: { 'public.people.ssn': { class: 'pii', mask: { kind: 'redact' } } },
    groups: {
      engineers: {
        read: ['*'],
        write: { '*': 'approve' },
        ddl: 'approve',
        unmask: [],
        infer: false,
        effects: { session: 'allow', procedure: 'approve' },
      },
      impatient: {
        read: ['*'],
        write: { '*': 'approve' },
        effects: { session: 'allow' },
        approval: { wait: '100ms' },
      },
      admins: { read: ['*'], write: ['*'], ddl: 'allow', infer: true, effects: { '*': 'allow' } },
    },
  },
}

beforeAll(async () => {
  process.env['TEST_APPROVAL_SECRET'] = secret
  process.env['TEST_APPROVAL_TOKEN'] = token
  receiver = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk: Buffer) => (body += chunk.toString()))
    request.on('end', () => {
      received.push({ body, headers: request.headers })
      response.writeHead(answerStatus).end('whatever')
    })
  })
  await new Promise<void>((resolve) => receiver.listen(0, '127.0.0.1', resolve))
  const port = (receiver.address() as AddressInfo).port
  upstream = await startPostgres()
  await execute(
    upstream,
    `CREATE TABLE ran (id serial, what text);
     CREATE TABLE people (id int PRIMARY KEY, name text, ssn text);
     INSERT INTO people VALUES (1, 'Ada', '111'), (2, 'Edgar', '222'), (3, 'Grace', '333');
     CREATE TABLE hits (n int);
     CREATE SCHEMA other; CREATE TABLE other.people (LIKE people);
     INSERT INTO other.people VALUES (9, 'Nobody', '999')`,
  )
  await execute(upstream, 'CREATE DATABASE approvals')
  const store = new URL(upstream.url('approvals'))
  process.env['TEST_STORE_PASSWORD'] = decodeURIComponent(store.password)
  store.password = ''
  proxy = await startProxy(upstream, {
    data,
    users: {
      ann: { groups: ['engineers'] },
      bob: { groups: ['engineers'] },
      hasty: { groups: ['impatient'] },
      root: { groups: ['admins'] },
    },
    configuration: {
      approvals: {
        adapter: 'webhook',
        webhook: { url: `http://127.0.0.1:${port}/hook`, secret_env: 'TEST_APPROVAL_SECRET' },
        // Making an embedded store takes seconds: unit/approval/service.test.ts does that.
        store: store.href,
        store_password_env: 'TEST_STORE_PASSWORD',
      },
      admin: { port: 0, token_env: 'TEST_APPROVAL_TOKEN', groups: ['dba', 'admins'] },
    },
  })
}, 120_000)

afterAll(async () => {
  await proxy.stop()
  await upstream.stop()
  receiver.close()
})

interface Summary {
  readonly id: string
  readonly state: string
  readonly statement: { readonly text: string }
  readonly outcome: string | null
}

async function api(method: string, path: string, body?: object) {
  const response = await fetch(`${proxy.adminUrl}${path}`, {
    method,
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

async function open(state = 'pending'): Promise<Summary[]> {
  return (await api('GET', `/v1/approvals?state=${state}`)).body['approvals'] as Summary[]
}

/** The request of this text, once it is there. */
async function pending(text: string): Promise<Summary> {
  let found: Summary | undefined
  await until(`${text} is held`, async () => {
    found = (await open()).find(({ statement }) => statement.text === text)
    return found !== undefined
  })
  if (found === undefined) throw new Error('not there')
  return found
}

async function approve(text: string): Promise<string> {
  const { id } = await pending(text)
  const { status, body } = await api('POST', `/v1/approvals/${id}/approve`, { comment: 'fine' })
  expect(status, JSON.stringify(body)).toBe(200)
  return id
}

interface Signed {
  readonly key?: string
  readonly timestamp?: number
  readonly nonce?: string
  readonly direction?: string
  readonly send?: string
}

function callbackBody(approval: string, decision: string, by: string, comment?: string): string {
  return JSON.stringify({ approval, decision, by: { subject: by, groups: ['dba'] }, comment })
}

async function callback(body: string, how: Signed = {}): Promise<{ status: number; text: string }> {
  const timestamp = String(how.timestamp ?? Math.floor(Date.now() / 1000))
  const nonce = how.nonce ?? randomBytes(16).toString('base64url')
  const text = `regate-${how.direction ?? 'callback'}-v1\n${timestamp}\n${nonce}\n${body}`
  const signature = createHmac('sha256', how.key ?? secret)
    .update(text)
    .digest('hex')
  const response = await fetch(`${proxy.adminUrl}/v1/approvals/callback`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      'regate-timestamp': timestamp,
      'regate-nonce': nonce,
      'regate-signature': `v1=${signature}`,
    },
    body: how.send ?? body,
  })
  return { status: response.status, text: await response.text() }
}

async function connect(user = 'ann'): Promise<{ client: pg.Client; notices: string[] }> {
  const client = new pg.Client({ connectionString: proxy.url('postgres', user) })
  const notices: string[] = []
  client.on('notice', ({ message, detail }) => notices.push(`${message ?? ''} ${detail ?? ''}`))
  client.on('error', () => undefined)
  await client.connect()
  return { client, notices }
}

async function withClient<T>(
  work: (client: pg.Client, notices: string[]) => Promise<T>,
  user = 'ann',
): Promise<T> {
  const { client, notices } = await connect(user)
  try {
    return await work(client, notices)
  } finally {
    await client.end().catch(() => undefined)
  }
}

async function counted(table = 'ran', where = 'true'): Promise<number> {
  const result = await execute(upstream, `SELECT count(*)::int AS n FROM ${table} WHERE ${where}`)
  return (result.rows[0] as { n: number }).n
}

const failure = (promise: Promise<unknown>): Promise<pg.DatabaseError> =>
  promise.then(
    () => {
      throw new Error('it ran')
    },
    (error: unknown) => error as pg.DatabaseError,
  )

describe('a client that waits', () => {
  test('is told, and gets its rows when it was approved', async () => {
    await withClient(async (client, notices) => {
      const text = "INSERT INTO ran (what) VALUES ('simple') RETURNING what"
      const running = client.query(text)
      await until('the notice', () => notices.length > 0)
      expect(notices[0]).toMatch(/held for approval: .*Approval [0-9A-Z]{26}, asked of dba/)
      expect(upstream.log()).not.toContain(`statement: ${text}`)
      await approve(text)
      expect((await running).rows).toEqual([{ what: 'simple' }])
      // Sent once more it asks once more.
      const second = failure(client.query(text))
      const { id } = await pending(text)
      await api('POST', `/v1/approvals/${id}/reject`, { reason: 'enough' })
      const error = await second
      expect(error.code).toBe('42501')
      expect(`${error.detail}`).toContain('enough')
      expect((await client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }])
      expect(await counted('ran', "what = 'simple'")).toBe(1)
    })
  })

  test('binds parameters: the reviewer sees them', async () => {
    await withClient(async (client) => {
      const text = 'INSERT INTO ran (what) VALUES ($1) RETURNING what'
      const running = client.query(text, ['from a parameter'])
      const { id } = await pending(text)
      const { body } = await api('GET', `/v1/approvals/${id}`)
      expect(body['parameters']).toEqual([{ format: 'text', value: 'from a parameter' }])
      await approve(text)
      expect((await running).rows).toEqual([{ what: 'from a parameter' }])
    })
  })

  test('bytes of a binary integer that look like a text are not shown as one', async () => {
    await withClient(async (client) => {
      const text = 'INSERT INTO hits VALUES ($1) RETURNING n'
      // A Buffer is sent in binary: four ASCII digits, and an int4 of 808464439.
      const running = failure(client.query(text, [Buffer.from('0007')]))
      const { id } = await pending(text)
      const { body } = await api('GET', `/v1/approvals/${id}`)
      expect(body['parameters']).toEqual([
        { format: 'binary', value: Buffer.from('0007').toString('base64') },
      ])
      await api('POST', `/v1/approvals/${id}/reject`, { reason: 'which row?' })
      expect((await running).code).toBe('42501')
    })
  })

  test('its masks stay on', async () => {
    await withClient(async (client) => {
      const text = 'UPDATE people SET name = name WHERE id = 1 RETURNING id, ssn'
      const running = client.query(text)
      const { id } = await pending(text)
      const { body } = await api('GET', `/v1/approvals/${id}`)
      expect(JSON.stringify(body['statements'])).toContain('"columns":["public.people.ssn"]')
      expect(body['estimate']).toMatchObject({ rows: 1 })
      await approve(text)
      expect((await running).rows).toEqual([{ id: 1, ssn: '****' }])
    })
  })

  test('in an open transaction: the reviewer sees its locks, the client goes on in it', async () => {
    await withClient(async (client) => {
      await client.query('BEGIN')
      await client.query('SELECT count(*) FROM people')
      const text = "INSERT INTO ran (what) VALUES ('in a transaction')"
      const running = client.query(text)
      const { id } = await pending(text)
      const { body } = await api('GET', `/v1/approvals/${id}`)
      expect(body['transaction']).toMatchObject({
        state: 'active',
        isolation: 'read committed',
        locks: expect.arrayContaining([{ relation: 'people', mode: 'AccessShareLock' }]) as unknown,
      })
      await approve(text)
      await running
      await client.query('ROLLBACK')
      expect(await counted('ran', "what = 'in a transaction'")).toBe(0)
    })
  })

  test('an aborted transaction asks nobody', async () => {
    await withClient(async (client) => {
      await client.query('BEGIN')
      await failure(client.query('SELECT 1/0'))
      const error = await failure(client.query("INSERT INTO ran (what) VALUES ('aborted')"))
      expect(error.code).toMatch(/42501|25P02/)
      expect(await open()).toEqual([])
      await client.query('ROLLBACK')
    })
  })

  test('of a string in which two ask, all is held and runs together', async () => {
    await withClient(async (client) => {
      const text =
        "INSERT INTO ran (what) VALUES ('two-1'); SELECT 1; INSERT INTO ran (what) VALUES ('two-2')"
      const running = client.query(text)
      const { id } = await pending(text)
      const { body } = await api('GET', `/v1/approvals/${id}`)
      expect(body['statements']).toHaveLength(3)
      expect(await counted('ran', "what LIKE 'two-%'")).toBe(0)
      await approve(text)
      await running
      expect(await counted('ran', "what LIKE 'two-%'")).toBe(2)
    })
  })

  test('cancelled: withdrawn, 57014, and the session lives', async () => {
    await withClient(async (client) => {
      const text = "INSERT INTO ran (what) VALUES ('cancelled')"
      const running = client.query(text)
      const { id } = await pending(text)
      const { processID, secretKey } = client as unknown as Record<string, number>
      // CancelRequest, as libpq sends it on a connection of its own.
      const packet = Buffer.alloc(16)
      packet.writeInt32BE(16, 0)
      packet.writeInt32BE(80_877_102, 4)
      packet.writeInt32BE(processID ?? 0, 8)
      packet.writeInt32BE(secretKey ?? 0, 12)
      connectSocket(proxy.port, proxy.host).end(packet)
      const error = await failure(running)
      expect(error.code).toBe('57014')
      await until('withdrawn', async () => {
        const { body } = await api('GET', `/v1/approvals/${id}`)
        return body['state'] === 'withdrawn'
      })
      expect((await client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }])
    })
  })

  test.each(['disconnect', 'terminate'] as const)('%s withdraws', async (how) => {
    const { client } = await connect()
    const text = `INSERT INTO ran (what) VALUES ('${how}')`
    client.query(text).catch(() => undefined)
    const { id } = await pending(text)
    const { stream } = (client as unknown as { connection: { stream: Socket } }).connection
    if (how === 'disconnect') stream.destroy()
    else stream.write(Buffer.from([0x58, 0, 0, 0, 4]))
    await until('withdrawn', async () => {
      return (await api('GET', `/v1/approvals/${id}`)).body['state'] === 'withdrawn'
    })
    stream.destroy()
    expect((await api('POST', `/v1/approvals/${id}/approve`, {})).status).toBe(409)
    expect(await counted('ran', `what = '${how}'`)).toBe(0)
  })

  test('who cannot wait sends it again, from another session too', async () => {
    const text = "INSERT INTO ran (what) VALUES ('again')"
    const error = await withClient((client) => failure(client.query(text)), 'hasty')
    expect(error.code).toBe('42501')
    expect(`${error.hint}`).toMatch(/sent again runs at once/)
    const id = await approve(text)
    // Somebody else's same statement is not covered.
    const other = await connect('bob')
    const running = failure(other.client.query(text))
    await pending(text)
    await withClient((client) => client.query(text), 'hasty')
    expect((await api('GET', `/v1/approvals/${id}`)).body['state']).toBe('used')
    await other.client.end()
    await running
    expect(await counted('ran', "what = 'again'")).toBe(1)
  })
})

describe('what has changed makes it void', () => {
  test('another parameter, another format, another search path', async () => {
    const insert = 'INSERT INTO hits VALUES ($1)'
    await withClient((client) => failure(client.query(insert, ['7'])), 'hasty')
    await approve(insert)
    const attempts: { values: unknown[]; path?: string }[] = [
      { values: ['8'] },
      { values: [Buffer.from([0, 0, 0, 7])] },
      { values: ['7'], path: 'other, public' },
    ]
    for (const { values, path } of attempts) {
      await withClient(async (client) => {
        if (path !== undefined) await client.query(`SET search_path TO ${path}`)
        const error = await failure(client.query(insert, [...values]))
        expect(error.code).toBe('42501')
      }, 'hasty')
    }
    expect(await counted('hits')).toBe(0)
    await withClient((client) => client.query(insert, ['7']), 'hasty')
    expect(await counted('hits')).toBe(1)
    for (const { id } of await open())
      await api('POST', `/v1/approvals/${id}/reject`, { reason: 'x' })
  })

  test.each([
    [
      "INSERT INTO ran (what) VALUES ('2026-01-01 12:00 IST'::timestamptz::text)",
      "timezone_abbreviations = 'India'",
    ],
    ["INSERT INTO ran (what) VALUES ('\\x41'::bytea::text)", "bytea_output = 'escape'"],
    ["INSERT INTO ran (what) VALUES ('1,5'::money::text)", "lc_monetary = 'C.UTF-8'"],
  ])('another setting that the text is read by: %s', async (text, setting) => {
    await withClient((client) => failure(client.query(text)), 'hasty')
    await approve(text)
    await withClient(async (client) => {
      await client.query(`SET ${setting}`)
      expect((await failure(client.query(text))).code).toBe('42501')
    }, 'hasty')
    await withClient((client) => client.query(text), 'hasty')
    for (const { id } of await open())
      await api('POST', `/v1/approvals/${id}/reject`, { reason: 'x' })
  })

  test('the schema, while it waits', async () => {
    await withClient(async (client) => {
      const text = "INSERT INTO ran (what) VALUES ('schema')"
      const running = failure(client.query(text))
      await pending(text)
      await withClient((root) => root.query('ALTER TABLE ran ADD COLUMN extra int'), 'root')
      // DDL through regate is known when the next text is judged.
      await withClient((root) => root.query('SELECT extra FROM ran LIMIT 0'), 'root')
      await approve(text)
      const error = await running
      expect(error.message).toBe('the approval is void')
      expect(`${error.detail}`).toContain('schema')
      expect(await counted('ran', "what = 'schema'")).toBe(0)
      expect((await client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }])
    })
  })

  test('not what others do to temporary tables, statistics and privileges', async () => {
    await withClient(async (client) => {
      const text = "INSERT INTO ran (what) VALUES ('undisturbed')"
      const running = client.query(text)
      await pending(text)
      await withClient(async (root) => {
        await root.query('CREATE TEMPORARY TABLE ran (what text, temporary bool)')
        for (const other of ['ANALYZE hits', 'GRANT SELECT ON hits TO PUBLIC'])
          await root.query(other)
        expect((await root.query('SELECT temporary FROM ran')).rows).toEqual([])
      }, 'root')
      await approve(text)
      await running
      expect(await counted('ran', "what = 'undisturbed'")).toBe(1)
    })
  })

  test('what reads a setting of its session is approved for its own wait only', async () => {
    const text = "INSERT INTO ran (what) VALUES (current_setting('application_name'))"
    const attempt = (tenant: string): Promise<pg.DatabaseError> =>
      withClient(async (client) => {
        await client.query(`SET application_name TO '${tenant}'`)
        return await failure(client.query(text))
      }, 'hasty')
    const error = await attempt('mine')
    expect(error.message).toBe('the approval has expired')
    const [asked] = (await open('all')).filter(({ statement }) => statement.text === text)
    const { status } = await api('POST', `/v1/approvals/${asked?.id ?? ''}/approve`, {})
    expect(status).toBe(409)
    await attempt('theirs')
    expect(await counted('ran', "what IN ('mine', 'theirs')")).toBe(0)
  })

  test('a large statement makes no large list', async () => {
    const text = `INSERT INTO ran (what) VALUES ${"('x'), ".repeat(40_000)}('y')`
    await withClient((client) => failure(client.query(text)), 'hasty')
    const listed = JSON.stringify((await api('GET', '/v1/approvals')).body)
    expect(listed).toContain(text.slice(0, 1_000))
    expect(listed.length).toBeLessThan(100_000)
    for (const { id } of await open())
      await api('POST', `/v1/approvals/${id}/reject`, { reason: 'x' })
  })

  test('a name of the session is approved for its own wait only', async () => {
    const text = 'EXECUTE p'
    await withClient(async (client) => {
      const prepare = "PREPARE p AS INSERT INTO ran (what) VALUES ('prepared')"
      const first = client.query(prepare)
      await approve(prepare)
      await first
      const running = client.query(text)
      const { id } = await pending(text)
      expect((await api('GET', `/v1/approvals/${id}`)).body['state']).toBe('pending')
      await approve(text)
      await running
      expect(await counted('ran', "what = 'prepared'")).toBe(1)
    })
  })
})

describe('callbacks', () => {
  test('forged, late, altered, reflected and replayed ones are refused', async () => {
    await withClient(async (client) => {
      const text = "INSERT INTO ran (what) VALUES ('callback')"
      const running = client.query(text)
      const { id } = await pending(text)
      const good = callbackBody(id, 'approve', 'grace')
      const seconds = Math.floor(Date.now() / 1000)
      const bad: Signed[] = [
        { key: 'wrong' },
        { timestamp: seconds - 400 },
        { timestamp: seconds + 400 },
        { send: good.replace('grace', 'gr@ce') },
        { direction: 'request' },
        { nonce: 'short' },
      ]
      for (const how of bad) {
        const refused = await callback(good, how)
        expect(refused.status, JSON.stringify(how)).toBe(401)
      }
      // A request of ours that is sent back is no callback either.
      await until('the webhook was told', () => received.some(({ body }) => body.includes(id)))
      const told = received.find(({ body }) => body.includes(id))
      const reflected = await fetch(`${proxy.adminUrl}/v1/approvals/callback`, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          'regate-timestamp': String(told?.headers['regate-timestamp']),
          'regate-nonce': String(told?.headers['regate-nonce']),
          'regate-signature': String(told?.headers['regate-signature']),
        },
        body: told?.body ?? '',
      })
      expect(reflected.status).toBe(401)
      expect((await callback(callbackBody(id, 'approve', 'Ann'))).status).toBe(403)
      expect((await callback(callbackBody(id, 'reject', 'grace'))).status).toBe(400)
      expect((await api('GET', `/v1/approvals/${id}`)).body['state']).toBe('pending')
      const nonce = randomBytes(16).toString('base64url')
      expect((await callback(good, { nonce })).status).toBe(200)
      expect((await callback(good, { nonce })).status).toBe(401)
      expect((await callback(good)).status).toBe(409)
      await running
      expect(await counted('ran', "what = 'callback'")).toBe(1)
    })
  })

  test('the request that the receiver gets is signed and has its key', async () => {
    const told = received.find(({ headers }) => headers['idempotency-key'] !== undefined)
    const { headers, body } = told as Received
    const one = (name: string): string => String(headers[name])
    const text = `regate-request-v1\n${one('regate-timestamp')}\n${one('regate-nonce')}\n${body}`
    const signature = createHmac('sha256', secret).update(text).digest('hex')
    expect(one('regate-signature')).toBe(`v1=${signature}`)
    expect(JSON.parse(body)).toMatchObject({ schema: 'regate.approval.v1', event: 'requested' })
  })

  test('the sample receiver of the guide tells what is from regate, and decides', async () => {
    const guide = await readFile('docs/guides/approvals.md', 'utf8')
    const sample = /```js\n([\s\S]*?)```/.exec(guide)?.[1] ?? ''
    process.env['APPROVAL_SECRET'] = secret
    const source = `data:text/javascript,${encodeURIComponent(sample)}`
    const { isFromRegate, decide } = (await import(/* @vite-ignore */ source)) as {
      isFromRegate(headers: Received['headers'], body: string): boolean
      decide(...all: unknown[]): Promise<Response>
    }
    await withClient(async (client) => {
      const text = "INSERT INTO ran (what) VALUES ('by the sample')"
      const running = client.query(text)
      const { id } = await pending(text)
      await until('the receiver was told', () => received.some(({ body }) => body.includes(id)))
      const told = received.find(({ body }) => body.includes(id)) as Received
      expect(isFromRegate(told.headers, told.body)).toBe(true)
      expect(isFromRegate(told.headers, told.body.replace('ann', 'bob'))).toBe(false)
      expect(isFromRegate({ ...told.headers, 'regate-nonce': 'another' }, told.body)).toBe(false)
      expect(isFromRegate({}, told.body)).toBe(false)
      const grace = { subject: 'grace', groups: ['dba'] }
      const answer = await decide(proxy.adminUrl, id, 'approve', grace, 'ticket 7')
      expect(answer.status).toBe(200)
      await running
      expect(await counted('ran', "what = 'by the sample'")).toBe(1)
    })
  })

  test('a receiver that is ill is seen by requester and operator, and tried again', async () => {
    answerStatus = 503
    try {
      await withClient(async (client, notices) => {
        const text = "INSERT INTO ran (what) VALUES ('ill receiver')"
        const running = client.query(text)
        await until('the second notice', () => notices.length > 1)
        expect(notices[1]).toContain('the webhook answered with status 503')
        const { id } = await pending(text)
        const { body } = await api('GET', `/v1/approvals/${id}`)
        expect(body['deliveries']).toMatchObject([{ state: 'pending' }])
        answerStatus = 200
        await until('delivered at last', async () => {
          const shown = await api('GET', `/v1/approvals/${id}`)
          return JSON.stringify(shown.body['deliveries']).includes('"delivered"')
        })
        const keys = received
          .filter((message) => message.body.includes(id))
          .map(({ headers }) => headers['idempotency-key'])
        expect(keys.length).toBeGreaterThan(1)
        expect(new Set(keys).size).toBe(1)
        await approve(text)
        await running
      })
    } finally {
      answerStatus = 200
    }
  })
})

describe('the admin API', () => {
  test('wants a reason, a known id and a caller', async () => {
    const nowhere = '01ARZ3NDEKTSV4RRFFQ69G5FAV'
    expect((await api('POST', `/v1/approvals/${nowhere}/approve`, {})).status).toBe(404)
    expect((await api('POST', `/v1/approvals/${nowhere}/reject`, { reason: ' ' })).status).toBe(400)
    expect((await api('GET', '/v1/approvals?state=bogus')).status).toBe(400)
    const anonymous = await fetch(`${proxy.adminUrl}/v1/approvals`)
    expect(anonymous.status).toBe(401)
  })

  test('a grant for a session runs what it sends, and is counted', async () => {
    await withClient(async (client) => {
      const text = "INSERT INTO ran (what) VALUES ('granted-1')"
      const running = client.query(text)
      const { id } = await pending(text)
      const made = await api('POST', '/v1/grants', {
        ...{ approval: id, scope: 'session', for_ms: 60_000, statements: 2, comment: 'go' },
      })
      expect(made.status).toBe(201)
      await running
      await client.query("INSERT INTO ran (what) VALUES ('granted-2')")
      const third = failure(client.query("INSERT INTO ran (what) VALUES ('granted-3')"))
      const { id: asked } = await pending("INSERT INTO ran (what) VALUES ('granted-3')")
      await api('POST', `/v1/approvals/${asked}/reject`, { reason: 'used up' })
      await third
      expect(await counted('ran', "what LIKE 'granted-%'")).toBe(2)
      const shown = await api('GET', `/v1/grants/${String(made.body['id'])}`)
      expect(shown.body).toMatchObject({ state: 'used', used: 2, statements: 2 })
    })
  })
})

test('the audit tells the whole story', async () => {
  const directory = join(proxy.directory, 'audit')
  let text = ''
  for (const name of await readdir(directory)) {
    if (name.endsWith('.ndjson')) text += await readFile(join(directory, name), 'utf8')
  }
  const records = text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>)
  const types = new Set(records.map(({ type }) => type))
  for (const type of [
    'approval_requested',
    'approval_decided',
    'approval_used',
    'approval_withdrawn',
    'approval_void',
    'grant_created',
  ]) {
    expect(types, type).toContain(type)
  }
  // Every approval that a statement ran under was used once, and by who asked.
  const ran = records.filter(({ type, approval, outcome }) => {
    return type === 'statement_decided' && approval !== undefined && outcome !== 'refused'
  })
  expect(ran.length).toBeGreaterThan(5)
  // What a reviewer sees of the server's estimate was asked for on record, before anybody was asked.
  const masked = records.filter(({ statement }) =>
    (statement as { readonly text?: string } | undefined)?.text?.endsWith('RETURNING id, ssn'),
  )
  const judged = masked.map(({ type }) => String(type)).filter((type) => /^statement_/.test(type))
  expect(judged).toEqual(['statement_estimated', 'statement_decided'])
  expect(text).not.toContain(secret)
  expect(text).not.toContain(token)
})
