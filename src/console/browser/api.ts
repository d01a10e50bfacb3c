/**
 * The admin API as the pages ask it: JSON in and out, errors as the API words them. Whoever is not
 * signed in any more is sent to sign in, and comes back.
 */

/** What a request ended with, when not with what was asked for. */
export class ApiError extends Error {
  readonly status: number
  readonly hint: string | null

  constructor(status: number, message: string, hint: string | null) {
    super(message)
    this.status = status
    this.hint = hint
  }
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return await ask<T>(path, signal === undefined ? {} : { signal })
}

export async function post<T>(path: string, body: unknown): Promise<T> {
  return await ask<T>(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
}

export async function remove<T>(path: string): Promise<T> {
  // What changes something is JSON, even where there is nothing to say.
  return await ask<T>(path, {
    method: 'DELETE',
    headers: { 'content-type': 'application/json' },
    body: '{}',
  })
}

async function ask<T>(path: string, init: RequestInit): Promise<T> {
  let response: Response
  try {
    response = await fetch(path, { ...init, credentials: 'same-origin' })
  } catch (error) {
    if (init.signal?.aborted === true) throw error
    throw new ApiError(0, 'regate does not answer.', 'Is it running, and is this machine online?')
  }
  if (response.status === 401) {
    location.assign(`/sign-in?to=${encodeURIComponent(location.pathname + location.search)}`)
    throw new ApiError(401, 'You are signed out.', null)
  }
  const text = await response.text()
  let body: unknown
  try {
    body = JSON.parse(text)
  } catch {
    throw new ApiError(response.status, `regate answered ${response.status}.`, null)
  }
  if (response.ok) return body as T
  const { error, message, hint } = body as Record<'error' | 'message' | 'hint', unknown>
  // Fastify names the status in `error` and says what it is in `message`.
  const said = typeof message === 'string' ? message : error
  throw new ApiError(
    response.status,
    typeof said === 'string' ? said : `regate answered ${response.status}.`,
    typeof hint === 'string' ? hint : null,
  )
}

type Listener = (value: unknown) => void

/** The live stream of this page: one connection for all topics that are watched. */
class Live {
  readonly #listeners = new Map<string, Set<Listener>>()
  readonly #states = new Set<(open: boolean) => void>()
  #source: EventSource | null = null
  #topics = ''

  watch(topic: string, listener: Listener): () => void {
    const listeners = this.#listeners.get(topic) ?? new Set()
    this.#listeners.set(topic, listeners.add(listener))
    this.#connect()
    return () => {
      listeners.delete(listener)
      if (listeners.size === 0) this.#listeners.delete(topic)
      this.#connect()
    }
  }

  /** Told whether updates arrive. */
  onState(listener: (open: boolean) => void): () => void {
    this.#states.add(listener)
    return () => this.#states.delete(listener)
  }

  /** Watching changes while a page is replaced: the connection follows once it is. */
  #connect(): void {
    queueMicrotask(() => {
      const topics = [...this.#listeners.keys()].sort().join(',')
      if (topics === this.#topics) return
      this.#topics = topics
      this.#source?.close()
      this.#source = topics === '' ? null : this.#open(topics)
    })
  }

  #open(topics: string): EventSource {
    const source = new EventSource(`/v1/events?topics=${topics}`)
    for (const topic of topics.split(',')) {
      source.addEventListener(topic, (event) => {
        const value: unknown = JSON.parse((event as MessageEvent<string>).data)
        for (const listener of this.#listeners.get(topic) ?? []) listener(value)
      })
    }
    source.onopen = () => this.#say(true)
    source.onerror = () => {
      this.#say(false)
      // The browser tries again by itself, except where the answer was no stream at all.
      if (source.readyState !== EventSource.CLOSED || this.#source !== source) return
      setTimeout(() => {
        if (this.#source === source) this.#source = this.#open(topics)
      }, 5_000)
    }
    return source
  }

  #say(open: boolean): void {
    for (const listener of this.#states) listener(open)
  }
}

export const live = new Live()
