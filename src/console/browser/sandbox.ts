/** A statement tried without running it: what it touches, what the policy says, what is masked. */
import { h, type ComponentChildren } from 'preact'
import { useState } from 'preact/hooks'
import { ApiError, post } from './api.ts'
import { Badge, Card, Empty, facts, Failure, Sql, table } from './parts.ts'
import { plural, visible } from './words.ts'

export interface Access {
  readonly complete: boolean
  readonly incomplete: readonly string[]
  readonly effects: readonly string[]
  readonly relations: readonly {
    readonly schema: string
    readonly name: string
    readonly actions: readonly string[]
    readonly through: string | null
  }[]
  readonly columns: readonly {
    readonly schema: string
    readonly relation: string
    readonly name: string
    readonly uses: readonly string[]
    readonly through: string | null
  }[]
  readonly outputs: readonly {
    readonly index: number
    readonly name: string
    readonly sources: readonly { readonly column: string; readonly via: string }[]
  }[]
  readonly flows: readonly { readonly from: string; readonly to: string; readonly via: string }[]
  readonly functions: readonly {
    readonly schema: string
    readonly name: string
    readonly class: string
  }[]
  readonly settings: readonly {
    readonly name: string | null
    readonly action: string
    readonly value: string | null
  }[]
}

interface Tried {
  readonly text: string
  readonly kind: string
  readonly access: Access
  readonly decision: {
    readonly action: string
    readonly rule: string
    readonly reason: string
    readonly hint: string
    readonly masks: Readonly<Record<string, { readonly kind: string }>>
  }
  readonly outputs: readonly {
    readonly index: number
    readonly mask: string | null
    readonly columns: readonly string[]
  }[]
  readonly refused: {
    readonly reason: string
    readonly hint: string
    readonly column: string
  } | null
}

interface Answer {
  readonly revision: string
  readonly statements: readonly Tried[]
}

export function Sandbox({
  databases,
  groups,
}: {
  databases: readonly string[]
  groups: readonly string[]
}): ComponentChildren {
  const [answer, setAnswer] = useState<Answer | null>(null)
  const [error, setError] = useState<ApiError | null>(null)
  const [busy, setBusy] = useState(false)
  const submit = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault()
    const form = new FormData(event.currentTarget as HTMLFormElement)
    const text = (name: string): string => {
      const value = form.get(name)
      return typeof value === 'string' ? value : ''
    }
    setBusy(true)
    setError(null)
    try {
      setAnswer(
        await post<Answer>('/v1/policy/try', {
          sql: text('sql'),
          database: text('database'),
          user: text('user'),
          groups: text('groups')
            .split(/[\s,]+/)
            .filter((group) => group !== ''),
          type: text('type'),
        }),
      )
    } catch (thrown) {
      setAnswer(null)
      setError(thrown instanceof ApiError ? thrown : new ApiError(0, String(thrown), null))
    }
    setBusy(false)
  }
  return h(
    Card,
    { title: 'Try a statement', note: 'judged as it would be, never run', class: 'full' },
    h(Form, { databases, groups, busy, onSubmit: submit }),
    error === null ? null : h(Failure, { error }),
    h(
      'div',
      { 'aria-live': 'polite' },
      answer === null
        ? null
        : answer.statements.length === 0
          ? h(Empty, null, 'There is no statement in this text.')
          : answer.statements.map((one, index) =>
              h(Result, { tried: one, key: index, several: answer.statements.length > 1 }),
            ),
    ),
  )
}

function Form(props: {
  databases: readonly string[]
  groups: readonly string[]
  busy: boolean
  onSubmit: (event: SubmitEvent) => Promise<void>
}): ComponentChildren {
  const { databases, groups, busy, onSubmit } = props
  return h(
    'form',
    { class: 'sandbox', onSubmit: (event: SubmitEvent) => void onSubmit(event) },
    field(
      'sql',
      'SQL',
      h('textarea', {
        id: 'try-sql',
        name: 'sql',
        rows: 5,
        required: true,
        spellcheck: false,
        maxLength: 65_536,
        placeholder: 'SELECT …',
        onKeyDown: submitByKey,
      }),
      'statement',
    ),
    field(
      'database',
      'Database',
      h('input', {
        id: 'try-database',
        name: 'database',
        required: true,
        list: 'try-databases',
        value: databases[0] ?? '',
      }),
    ),
    h(
      'datalist',
      { id: 'try-databases' },
      databases.map((name) => h('option', { value: name })),
    ),
    field(
      'user',
      'User',
      h('input', { id: 'try-user', name: 'user', placeholder: 'somebody', autocomplete: 'off' }),
    ),
    field(
      'groups',
      'Groups',
      h('input', {
        id: 'try-groups',
        name: 'groups',
        list: 'try-known',
        placeholder: 'agents, dba',
        autocomplete: 'off',
      }),
    ),
    h(
      'datalist',
      { id: 'try-known' },
      groups.map((name) => h('option', { value: name })),
    ),
    field(
      'type',
      'Client',
      h(
        'select',
        { id: 'try-type', name: 'type' },
        h('option', { value: 'human' }, 'human'),
        h('option', { value: 'machine' }, 'machine'),
      ),
    ),
    h(
      'button',
      { type: 'submit', class: 'primary', disabled: busy },
      busy ? 'Judging …' : 'Judge it',
    ),
  )
}

function submitByKey(event: KeyboardEvent): void {
  if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return
  event.preventDefault()
  ;(event.currentTarget as HTMLTextAreaElement).form?.requestSubmit()
}

function field(
  name: string,
  label: string,
  control: ComponentChildren,
  style = '',
): ComponentChildren {
  return h('div', { class: `field ${style}` }, h('label', { for: `try-${name}` }, label), control)
}

function Result({ tried, several }: { tried: Tried; several: boolean }): ComponentChildren {
  const { decision, refused } = tried
  return h(
    'article',
    { class: 'result' },
    several ? h(Sql, { text: tried.text }) : null,
    h(
      'p',
      { class: 'verdict' },
      h(Badge, { word: refused === null ? decision.action : 'deny' }),
      ' ',
      visible(refused?.reason ?? decision.reason, 2_000),
    ),
    facts([
      ['Rule', h('code', null, visible(refused === null ? decision.rule : 'regate.masking', 200))],
      ...hint(refused?.hint ?? decision.hint),
      ['Statement', `${tried.kind}: ${tried.access.effects.join(', ') || 'no effect'}`],
    ]),
    h(AccessView, {
      access: tried.access,
      masks: new Map(tried.outputs.map((one) => [one.index, one.mask])),
    }),
  )
}

function hint(text: string): [string, ComponentChildren][] {
  return text === '' ? [] : [['Hint', visible(text, 2_000)]]
}

/** What a statement touches; `masks` by the output's index. Used for approvals too. */
export function AccessView(props: {
  access: Access
  masks: ReadonlyMap<number, string | null>
}): ComponentChildren {
  const { access, masks } = props
  return h(
    'div',
    { class: 'access' },
    access.complete
      ? null
      : h(
          'div',
          { class: 'notice' },
          h('strong', null, 'Not everything it touches is known'),
          h(
            'ul',
            null,
            access.incomplete.map((why) => h('li', null, visible(why, 500))),
          ),
        ),
    outputs(access, masks),
    list(
      'Relations',
      access.relations.map((one) => [
        `${one.schema}.${one.name}`,
        `${one.actions.join(', ')}${cameIn(one.through)}`,
      ]),
    ),
    list(
      'Columns',
      access.columns.map((one) => [
        `${one.schema}.${one.relation}.${one.name}`,
        `${one.uses.join(', ')}${cameIn(one.through)}`,
      ]),
    ),
    list(
      'Flows',
      access.flows.map((one) => [`${one.from} → ${one.to}`, one.via]),
    ),
    list(
      'Functions',
      access.functions.map((one) => [
        one.schema === '' ? one.name : `${one.schema}.${one.name}`,
        one.class,
      ]),
    ),
    list(
      'Settings',
      access.settings.map((one) => [
        one.name ?? '(not constant)',
        `${one.action}${one.value === null ? '' : ` ${one.value}`}`,
      ]),
    ),
  )
}

function outputs(access: Access, masks: ReadonlyMap<number, string | null>): ComponentChildren {
  return access.outputs.length === 0
    ? null
    : table({
        caption: 'Outputs and where they come from',
        columns: [
          { title: 'Output', cell: (row) => visible(row.name, 100) },
          {
            title: 'Comes from',
            cell: (row) =>
              row.sources.length === 0
                ? h('span', { class: 'note' }, 'no column')
                : h(
                    'ul',
                    { class: 'plain' },
                    row.sources.map((source) =>
                      h(
                        'li',
                        null,
                        h('code', null, visible(source.column, 200)),
                        source.via === 'direct'
                          ? null
                          : h('span', { class: 'note' }, ` ${source.via}`),
                      ),
                    ),
                  ),
          },
          {
            title: 'Masked',
            cell: (row) => {
              const mask = masks.get(row.index) ?? null
              return mask === null
                ? h('span', { class: 'note' }, 'no')
                : h('span', { class: 'badge info' }, visible(mask, 40))
            },
          },
        ],
        rows: access.outputs,
        key: (row) => String(row.index),
      })
}

function cameIn(through: string | null): string {
  return through === null ? '' : `, through a ${through}`
}

function list(title: string, rows: readonly (readonly [string, string])[]): ComponentChildren {
  if (rows.length === 0) return null
  return h(
    'details',
    { open: rows.length <= 12 },
    h(
      'summary',
      null,
      `${title} `,
      h('span', { class: 'note' }, plural(rows.length, 'entry', 'entries')),
    ),
    h(
      'ul',
      { class: 'plain columns' },
      rows.map(([name, words]) =>
        h(
          'li',
          null,
          h('code', null, visible(name, 300)),
          h('span', { class: 'note' }, ` ${visible(words, 500)}`),
        ),
      ),
    ),
  )
}
