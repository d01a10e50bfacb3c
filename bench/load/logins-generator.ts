/**
 * A process that does nothing but log in, at a rate: so that the process which measures the running
 * sessions does not measure the work of its own logins. It is told by messages and answers with the
 * time each login took.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { ScramKeyCache } from '../../src/identity/identity.ts'
import { RawClient } from '../../test/identity/support/raw.ts'

/** What to do: log in at `port`, `rate` times a second. */
export interface LoginOrder {
  readonly port: number
  readonly database: string
  readonly user: string
  /** A password (SCRAM) or a token, which is sent as it is. */
  readonly password: string
  readonly method: 'scram' | 'token'
  readonly rate: number
  readonly seconds: number
}

export interface LoginReport {
  readonly latencies: readonly number[]
  readonly failures: number
  readonly seconds: number
}

const keys = new ScramKeyCache()

process.on('message', (order: LoginOrder) => {
  void generate(order).then((report) => process.send?.(report))
})

async function generate(order: LoginOrder): Promise<LoginReport> {
  const latencies: number[] = []
  let failures = 0
  const attempts: Promise<void>[] = []
  const beganMs = performance.now()
  const elapsed = (): number => (performance.now() - beganMs) / 1000
  while (elapsed() < order.seconds) {
    const due = elapsed() * order.rate
    while (attempts.length < due) {
      const began = performance.now()
      attempts.push(
        login(order).then(
          () => void latencies.push(performance.now() - began),
          () => {
            failures++
          },
        ),
      )
    }
    await delay(2)
  }
  await Promise.all(attempts)
  return { latencies, failures, seconds: elapsed() }
}

/** Connects, proves who it is, waits for ReadyForQuery and leaves. */
async function login(order: LoginOrder): Promise<void> {
  const client = await RawClient.connect(order.port)
  try {
    client.startup(order.user, { database: order.database })
    await client.next()
    if (order.method === 'token') client.password(order.password)
    else await client.scram(order.password, 'SCRAM-SHA-256', null, keys)
    for (;;) {
      const said = await client.next()
      if (said.kind === 'error' || said.kind === 'closed') throw new Error('refused')
      if (said.kind === 'other' && said.type === 'Z') break
    }
    client.send(Buffer.from([0x58, 0, 0, 0, 4]))
  } finally {
    client.close()
  }
}
