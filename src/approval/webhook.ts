/**
 * The adapter `webhook`: one signed POST for each message, with an idempotency key that stays the
 * same when it is sent again. Redirects are not followed, the answer's body is not believed, and
 * neither can hold the sender up.
 */
import { request, type Agent } from 'undici'
import type { Adapter, ApprovalEvent } from './adapter.ts'
import { payloadOf, type PayloadFormat } from './payloads.ts'
import { signedHeaders, type Signer } from './signing.ts'

export interface WebhookOptions {
  readonly url: string
  readonly format: PayloadFormat
  /** Read for every message, so that a rotated secret is taken over. */
  readonly signer: () => Promise<Signer>
  readonly agent: Agent
  readonly nowMs: () => number
}

const headersMsMax = 10_000
const answerBytesMax = 64 * 1024

export function webhookAdapter(options: WebhookOptions): Adapter {
  return {
    name: 'webhook',
    send: (event, signal) => send(options, event, signal),
    close: () => options.agent.destroy(),
  }
}

async function send(
  options: WebhookOptions,
  event: ApprovalEvent,
  signal: AbortSignal,
): Promise<void> {
  const { url, format, agent, nowMs } = options
  const body = Buffer.from(JSON.stringify(payloadOf(format, event)))
  const signer = await options.signer()
  const answer = await request(url, {
    method: 'POST',
    dispatcher: agent,
    headers: {
      'content-type': 'application/json',
      'idempotency-key': event.deliveryId,
      ...signedHeaders(signer, 'request', body, nowMs()),
    },
    body,
    headersTimeout: headersMsMax,
    bodyTimeout: headersMsMax,
    signal,
  })
  // An answer is its status: what else it says is read away, and not for long.
  await answer.body.dump({ limit: answerBytesMax, signal }).catch(() => undefined)
  if (answer.statusCode < 200 || answer.statusCode > 299) {
    throw new Error(`the webhook answered with status ${String(answer.statusCode)}`)
  }
}
