/**
 * What the pages have in common. Elements are made by preact's `h`: text is always text, there is no
 * way from a value to markup.
 */
import { h, type ComponentChildren } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import { ApiError, get, live } from './api.ts'
import type { OverviewValue } from './overview.ts'
import type { RulesValue } from './policy.ts'
import type { SessionRow } from './sessions.ts'
import { ago, clock, oneLine, visible } from './words.ts'

/** Who is signed in and what they may do. */
export interface Me {
  readonly subject: string | null
  readonly groups: readonly string[]
  readonly roles: readonly string[]
  readonly signed_in: boolean
}

export interface Loaded<T> {
  readonly value: T | null
  readonly error: ApiError | null
  readonly loading: boolean
  again(): void
}

/** What the API says at an address; the old answer stays while a new one is on its way. */
export function useLoad<T>(path: string | null): Loaded<T> {
  const [state, setState] = useState<{
    value: T | null
    error: ApiError | null
    of: string | null
  }>({ value: null, error: null, of: null })
  const [round, setRound] = useState(0)
  const busy = useRef(false)
  useEffect(() => {
    if (path === null) return undefined
    const stop = new AbortController()
    const settled = (): void => {
      if (!stop.signal.aborted) busy.current = false
    }
    busy.current = true
    void get<T>(path, stop.signal)
      .then(
        (value) => setState({ value, error: null, of: path }),
        (error: unknown) => {
          if (stop.signal.aborted) return
          const known = error instanceof ApiError ? error : new ApiError(0, String(error), null)
          setState((before) => ({
            value: before.of === path ? before.value : null,
            error: known,
            of: path,
          }))
        },
      )
      .finally(settled)
    return () => stop.abort()
  }, [path, round])
  const fresh = state.of === path
  return {
    value: fresh ? state.value : null,
    error: fresh ? state.error : null,
    loading: !fresh && path !== null,
    // Whoever asks often must not cut off an answer that takes its time.
    again: () => {
      if (!busy.current) setRound((number) => number + 1)
    },
  }
}

/** What the live stream carries, by topic. */
export interface Topics {
  readonly overview: OverviewValue
  readonly sessions: { readonly sessions: readonly SessionRow[] }
  readonly rules: RulesValue
}

/** The newest value of a live topic. */
export function useLive<K extends keyof Topics>(topic: K): Topics[K] | null {
  const [value, setValue] = useState<Topics[K] | null>(null)
  useEffect(() => live.watch(topic, (next) => setValue(next as Topics[K])), [topic])
  return value
}

/** A number that grows every so often while the page is looked at: a reason to ask again. */
export function useBeat(everyMs: number): number {
  const [beat, setBeat] = useState(0)
  useEffect(() => {
    const timer = setInterval(() => {
      if (document.visibilityState === 'visible') setBeat((number) => number + 1)
    }, everyMs)
    return () => clearInterval(timer)
  }, [everyMs])
  return beat
}

/** Milliseconds since the epoch, moving while the page is looked at. */
export function useNow(everyMs = 1_000): number {
  const [now, setNow] = useState(Date.now())
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), everyMs)
    return () => clearInterval(timer)
  }, [everyMs])
  return now
}

export function Heading(props: { title: string; children?: ComponentChildren }): ComponentChildren {
  useEffect(() => {
    document.title = `${props.title} · regate`
  }, [props.title])
  return h('div', { class: 'heading' }, h('h1', null, props.title), props.children)
}

export function Card(props: {
  title: string
  note?: ComponentChildren
  class?: string
  children?: ComponentChildren
}): ComponentChildren {
  const id = `card-${props.title.toLowerCase().replace(/\W+/g, '-')}`
  return h(
    'section',
    { class: `card ${props.class ?? ''}`, 'aria-labelledby': id },
    h('header', null, h('h2', { id }, props.title), h('span', { class: 'note' }, props.note)),
    props.children,
  )
}

/** What went wrong, in the API's words, and a way to try again. */
export function Failure(props: { error: ApiError; again?: () => void }): ComponentChildren {
  const { error, again } = props
  return h(
    'div',
    { class: 'problem', role: 'alert' },
    h('p', null, visible(error.message)),
    error.hint === null ? null : h('p', { class: 'note' }, visible(error.hint)),
    again === undefined ? null : h('button', { type: 'button', onClick: again }, 'Try again'),
  )
}

export function Loading(): ComponentChildren {
  return h('p', { class: 'loading', role: 'status' }, 'Loading …')
}

export function Empty(props: { children: ComponentChildren }): ComponentChildren {
  return h('p', { class: 'empty' }, props.children)
}

/** The three states of something that is loaded, and what it is. */
export function shown<T>(
  loaded: Loaded<T>,
  view: (value: T) => ComponentChildren,
): ComponentChildren {
  if (loaded.error !== null && loaded.value === null) {
    return h(Failure, { error: loaded.error, again: () => loaded.again() })
  }
  return loaded.value === null ? h(Loading, null) : view(loaded.value)
}

const tones: Readonly<Record<string, string>> = {
  allow: 'good',
  approved: 'good',
  used: 'good',
  active: 'good',
  mask: 'info',
  pending: 'warn',
  approve: 'warn',
  held: 'warn',
  deny: 'bad',
  rejected: 'bad',
  void: 'bad',
  fault: 'bad',
}

export function Badge(props: { word: string }): ComponentChildren {
  return h('span', { class: `badge ${tones[props.word] ?? 'plain'}` }, visible(props.word, 40))
}

/** A moment: how long ago, and exactly when to whoever asks. */
export function Time(props: { at: string; now: number; exact?: boolean }): ComponentChildren {
  const { at, now } = props
  const text = props.exact === true ? clock(at, now) : ago(at, now)
  return h('time', { dateTime: at, title: at }, text)
}

/** Foreign text, on one line or as it is. */
export function Sql(props: { text: string; line?: boolean }): ComponentChildren {
  if (props.line === true) {
    return h('code', { class: 'sql line', title: visible(props.text, 1_000) }, oneLine(props.text))
  }
  return h('pre', { class: 'sql', tabIndex: 0 }, h('code', null, visible(props.text)))
}

export interface Column<Row> {
  readonly title: string
  readonly cell: (row: Row) => ComponentChildren
  readonly class?: string
}

/** A table whose rows become cards on a phone: each cell knows its title. */
export function table<Row>(props: {
  caption: string
  columns: readonly Column<Row>[]
  rows: readonly Row[]
  key: (row: Row) => string
  selected?: string | null
}): ComponentChildren {
  const { caption, columns, rows, key, selected } = props
  return h(
    'div',
    { class: 'scroll' },
    h(
      'table',
      null,
      h('caption', { class: 'hidden' }, caption),
      h(
        'thead',
        null,
        h(
          'tr',
          null,
          columns.map((one) => h('th', { scope: 'col', class: one.class }, one.title)),
        ),
      ),
      h(
        'tbody',
        null,
        rows.map((row) =>
          h(
            'tr',
            { key: key(row), 'aria-current': selected === key(row) ? 'true' : undefined },
            columns.map((one) =>
              h('td', { class: one.class, 'data-title': one.title }, one.cell(row)),
            ),
          ),
        ),
      ),
    ),
  )
}

/** Name and value pairs. */
export function facts(
  entries: readonly (readonly [string, ComponentChildren])[],
): ComponentChildren {
  return h(
    'dl',
    { class: 'facts' },
    entries.map(([name, value]) =>
      h('div', { key: name }, h('dt', null, name), h('dd', null, value)),
    ),
  )
}

/** A question that has to be answered before anything else; Escape is no. */
export function Dialog(props: {
  title: string
  onClose: () => void
  children?: ComponentChildren
}): ComponentChildren {
  const element = useRef<HTMLDialogElement>(null)
  useEffect(() => {
    element.current?.showModal()
  }, [])
  return h(
    'dialog',
    { ref: element, 'aria-labelledby': 'dialog-title', onClose: props.onClose },
    h('h2', { id: 'dialog-title' }, props.title),
    props.children,
  )
}

/** A link inside the console: the page changes, the document stays. */
export function go(path: string): void {
  history.pushState(null, '', path)
  dispatchEvent(new PopStateEvent('popstate'))
  scrollTo(0, 0)
}

export function link(
  path: string,
  children: ComponentChildren,
  properties = {},
): ComponentChildren {
  return h(
    'a',
    {
      href: path,
      ...properties,
      onClick: (event: MouseEvent) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return
        event.preventDefault()
        go(path)
      },
    },
    children,
  )
}
