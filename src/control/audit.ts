/**
 * `GET /v1/audit`: the log searched over HTTP, a page at a time or as a stream of NDJSON.
 * Names and shapes are in docs/guides/audit.md. Reads the segments of all workers; writes nothing.
 */
import { Readable } from 'node:stream'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import {
  auditFilter,
  AuditSearch,
  endsOf,
  FilterError,
  filterNames,
  type AuditFilter,
  type Found,
  type Order,
} from '../audit/audit.ts'
import type { Clock } from '../core/core.ts'

export interface AuditRouteOptions {
  readonly directory: string
  readonly clock: Clock
  /** A page stops after reading so much; default 256 MiB. */
  readonly pageBytesMax?: number
}

const limitDefault = 100
const limitMax = 1000
const pageBytesDefault = 256 * 1024 * 1024
const ndjson = 'application/x-ndjson'

interface Asked {
  readonly filter: AuditFilter
  readonly order: Order
  readonly limit: number
  readonly cursor: string | null
}

/** Adds the route. */
export function auditRoutes(options: AuditRouteOptions): (app: FastifyInstance) => void {
  return (app) => {
    app.get('/v1/audit', async (request, reply) => {
      try {
        const asked = askedOf(request.query as Query, options.clock.nowMs())
        if (request.headers.accept?.includes(ndjson) === true) {
          return await stream(options, asked, request, reply)
        }
        return await page(options, asked)
      } catch (error) {
        if (!(error instanceof FilterError)) throw error
        return await reply.code(400).send({ error: error.message })
      }
    })
  }
}

type Query = Readonly<Record<string, string | readonly string[] | undefined>>

const otherNames = new Set(['since', 'until', 'order', 'limit', 'cursor'])

/** Throws FilterError with the name of what is wrong. */
function askedOf(query: Query, nowMs: number): Asked {
  for (const name of Object.keys(query)) {
    if (otherNames.has(name) || (filterNames as readonly string[]).includes(name)) continue
    throw new FilterError(`${name} is no parameter of /v1/audit`)
  }
  const order = query['order'] ?? 'desc'
  if (order !== 'asc' && order !== 'desc') throw new FilterError('order: asc or desc is expected')
  const limit = Number(query['limit'] ?? limitDefault)
  if (!Number.isInteger(limit) || limit < 1 || limit > limitMax) {
    throw new FilterError(`limit: a number from 1 to ${limitMax} is expected`)
  }
  const cursor = query['cursor'] ?? null
  if (cursor !== null && typeof cursor !== 'string') {
    throw new FilterError('cursor may be given once')
  }
  return { filter: auditFilter(query, nowMs), order, limit, cursor: cursor === '' ? null : cursor }
}

async function page(
  { directory, pageBytesMax = pageBytesDefault }: AuditRouteOptions,
  { filter, order, limit, cursor }: Asked,
): Promise<object> {
  const search = new AuditSearch(directory, { filter, order, cursor, bytesMax: pageBytesMax })
  const found: Found[] = []
  let full = false
  for await (const one of search.records()) {
    found.push(one)
    full = found.length === limit
    if (full) break
  }
  const ends = await endsOf(directory, found)
  const records = found.map(({ record }) =>
    record.type === 'statement_decided'
      ? { ...record, ended: ends.get(record.decision?.decision_id ?? '') ?? null }
      : record,
  )
  const next = full || !search.complete ? search.cursor : null
  return { records, next, complete: search.complete }
}

/** Every match as it is in the log. The client's going ends the search. */
async function stream(
  { directory }: AuditRouteOptions,
  { filter, order, cursor }: Asked,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const gone = new AbortController()
  request.raw.once('close', () => {
    gone.abort()
  })
  const search = new AuditSearch(directory, {
    ...{ filter, order, cursor, ends: order === 'asc', signal: gone.signal },
  })
  const newline = Buffer.from('\n')
  const lines = async function* (): AsyncGenerator<Buffer> {
    for await (const { bytes } of search.records()) yield Buffer.concat([bytes, newline])
  }
  return await reply.type(ndjson).send(Readable.from(lines(), { objectMode: false }))
}
