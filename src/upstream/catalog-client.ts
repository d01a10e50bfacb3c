/**
 * Connections that the catalog is read over: an upstream connection of the proxy's own (the same
 * TLS and authentication as every session), or a `pg` client. Reads only; owned by the catalog.
 *
 * Invariant: one query at a time; a connection that failed stays failed, and is ended by its owner.
 */
import type pg from 'pg'
import { ProxyError } from '../core/core.ts'
import {
  backendFrameLimits,
  backendTypes,
  decodeDataRow,
  decodeErrorOrNotice,
  encodeQuery,
  encodeTerminate,
  FrameReader,
  written,
} from '../wire/wire.ts'
import type { CatalogConnection } from './catalog.ts'
import type { CatalogQuery } from './catalog-load.ts'
import { connectUpstream } from './connect.ts'
import { SocketBytes } from './socket-bytes.ts'
import type { UpstreamOptions } from './target.ts'

/** Runs texts one by one over a connected `pg` client; every value as text. */
export function catalogQuery(client: pg.ClientBase): CatalogQuery {
  const types = { getTypeParser: () => (value: string | Buffer) => String(value) }
  return async (texts) => {
    const rows: (string | null)[][] = []
    for (const text of texts) {
      const result = await client.query<(string | null)[]>({ text, rowMode: 'array', types })
      for (const row of result.rows) rows.push(row)
    }
    return rows
  }
}

/** Connects as sessions do. Rejects with what `connectUpstream` rejects with. */
export async function connectCatalog(
  options: Omit<UpstreamOptions, 'parameters' | 'protocolMinor'>,
): Promise<CatalogConnection> {
  const connection = await connectUpstream({
    parameters: new Map([
      ['application_name', 'regate catalog'],
      ['statement_timeout', '60000'],
    ]),
    protocolMinor: 0,
    ...options,
  })
  const bytes = new SocketBytes(connection.socket)
  const { frameBytesMax } = options.limits
  const reader = new FrameReader({ frameBytesMax, limits: backendFrameLimits(frameBytesMax) })
  if (connection.pending.length > 0) reader.push(connection.pending)
  options.interrupt?.on(() => void connection.socket.destroy())
  return {
    query: async (texts) => {
      const rows: (string | null)[][] = []
      for (const text of texts) {
        connection.socket.write(written((to) => encodeQuery(to, text)))
        await readAnswer(bytes, reader, rows)
      }
      return rows
    },
    end: () => {
      connection.socket.end(written((to) => encodeTerminate(to)))
      bytes.release()
      connection.socket.resume()
      return Promise.resolve()
    },
  }
}

/** Everything up to ReadyForQuery; the server's error is thrown when the answer is over. */
async function readAnswer(
  bytes: SocketBytes,
  reader: FrameReader,
  rows: (string | null)[][],
): Promise<void> {
  let failure: ProxyError | null = null
  for (;;) {
    const found = reader.next()
    if (found !== 'frame') {
      const chunk = await bytes.read()
      if (chunk === null) throw new ProxyError('upstream_lost', 'the catalog connection was closed')
      reader.push(chunk)
      continue
    }
    const view = { buffer: reader.buffer, start: reader.start, end: reader.end }
    if (reader.type === backendTypes.DataRow) {
      rows.push(decodeDataRow(view).map((value) => value?.toString('utf8') ?? null))
    } else if (reader.type === backendTypes.ErrorResponse) {
      const fields = decodeErrorOrNotice(view)
      const message = fields.get('M') ?? 'unknown error'
      failure = new ProxyError('internal', `the catalog cannot be read: ${message}`, {
        sqlstate: fields.get('C') ?? 'XX000',
      })
    } else if (reader.type === backendTypes.ReadyForQuery) {
      if (failure !== null) throw failure
      return
    }
  }
}
