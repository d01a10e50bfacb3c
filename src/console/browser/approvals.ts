/** What waits for somebody: the queue, one request in full, and the decision on it. */
import { h, type ComponentChildren } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import { ApiError, post } from './api.ts'
import {
  Badge,
  Card,
  Empty,
  facts,
  Failure,
  Heading,
  link,
  shown,
  Sql,
  Time,
  useBeat,
  useLoad,
  useNow,
  type Me,
} from './parts.ts'
import { AccessView, type Access } from './sandbox.ts'
import {
  deliveryWords,
  transactionWords,
  type Delivery,
  type Transaction,
} from './request-words.ts'
import { count, plural, span, visible } from './words.ts'

interface Vote {
  readonly by: string
  readonly vote: string
  readonly at: string
  readonly comment: string | null
}

interface Summary {
  readonly id: string
  readonly state: string
  readonly held: boolean
  readonly created: string
  readonly expires: string
  readonly decided: string | null
  readonly identity: {
    readonly subject: string
    readonly user: string
    readonly groups: readonly string[]
    readonly type: string
    readonly on_behalf_of: string | null
    readonly method: string
  }
  readonly database: string
  readonly role: string
  readonly session: string
  readonly client_address: string
  readonly statement: {
    readonly text: string
    readonly truncated: boolean
    readonly kind: string
    readonly count: number
  }
  readonly rule: string
  readonly reason: string
  readonly requirements: readonly {
    readonly groups: readonly string[]
    readonly quorum: number
    readonly given: number
  }[]
  readonly votes: readonly Vote[]
  readonly outcome: string | null
  readonly may_decide: boolean
  readonly may_not_because: string | null
}

interface Detail extends Summary {
  readonly parameters: readonly { readonly format: string; readonly value: string | null }[] | null
  readonly statements: readonly {
    readonly text: string
    readonly kind: string
    readonly action: string
    readonly rule: string
    readonly reason: string
    readonly access: Access
    readonly masks: readonly {
      readonly index: number
      readonly output: string
      readonly kind: string
      readonly columns: readonly string[]
    }[]
  }[]
  readonly estimate: {
    readonly rows: number
    readonly rows_max: number
    readonly cost: number
    readonly nodes: readonly string[]
  } | null
  readonly settings: readonly {
    readonly name: string
    readonly from: string | null
    readonly to: string | null
  }[]
  readonly transaction: Transaction
  readonly application_name: string
  readonly search_path: readonly string[]
  readonly current_role: string
  readonly policy_revision: string
  readonly deliveries: readonly Delivery[]
}

const states = [
  ['pending', 'Waiting'],
  ['all', 'All'],
] as const

export function Approvals({ me }: { me: Me }): ComponentChildren {
  const given = new URLSearchParams(location.search)
  const state = given.get('state') === 'all' ? 'all' : 'pending'
  const id = given.get('id')
  const list = useLoad<{ approvals: readonly Summary[]; next: string | null }>(
    `/v1/approvals?state=${state}&limit=100`,
  )
  const beat = useBeat(2_000)
  const now = useNow()
  // Asked anew, since other proxies may share the store.
  useEffect(() => {
    if (beat > 0) list.again()
  }, [beat])
  return h(
    'div',
    null,
    h(
      Heading,
      { title: 'Approvals' },
      h(
        'div',
        { class: 'tabs', role: 'group', 'aria-label': 'Which requests' },
        states.map(([name, title]) =>
          link(`/approvals?state=${name}`, title, {
            'aria-current': state === name ? 'true' : undefined,
          }),
        ),
      ),
    ),
    shown(list, ({ approvals }) =>
      approvals.length === 0 && id === null
        ? h(
            Empty,
            null,
            state === 'pending'
              ? 'Nothing waits for a decision.'
              : 'Nobody has asked for an approval yet.',
          )
        : h(
            'div',
            { class: 'split' },
            h(
              'ul',
              { class: 'queue', 'aria-label': 'Requests' },
              approvals.map((one) =>
                h(Entry, { key: one.id, request: one, now, state, selected: one.id === id }),
              ),
            ),
            id === null
              ? h('p', { class: 'empty' }, 'Choose a request to see what it would do.')
              : h(Request, {
                  id,
                  key: id,
                  me,
                  now,
                  beat,
                  changed: () => list.again(),
                }),
          ),
    ),
  )
}

function Entry(props: {
  request: Summary
  now: number
  state: string
  selected: boolean
}): ComponentChildren {
  const { request, now, state, selected } = props
  return h(
    'li',
    null,
    link(
      `/approvals?state=${state}&id=${encodeURIComponent(request.id)}`,
      [
        h(
          'span',
          { class: 'top' },
          h(Badge, { word: request.state }),
          h('strong', null, visible(request.identity.user, 60)),
          h('span', { class: 'note' }, visible(request.database, 40)),
          h(Time, { at: request.created, now }),
        ),
        h(Sql, { text: request.statement.text, line: true }),
        h('span', { class: 'note' }, visible(request.reason, 200)),
      ],
      { 'aria-current': selected ? 'true' : undefined },
    ),
  )
}

function Request(props: {
  id: string
  me: Me
  now: number
  beat: number
  changed: () => void
}): ComponentChildren {
  const { id, me, now, beat, changed } = props
  const loaded = useLoad<Detail>(`/v1/approvals/${encodeURIComponent(id)}`)
  useEffect(() => {
    if (beat > 0) loaded.again()
  }, [beat])
  return h(
    'div',
    { class: 'request', 'aria-live': 'polite' },
    shown(loaded, (fresh) => {
      const request = fresh
      return [
        h(Decide, {
          request,
          me,
          now,
          onDecided: () => {
            loaded.again()
            changed()
          },
        }),
        h(About, { request, now }),
      ]
    }),
  )
}

function Decide(props: {
  request: Detail
  me: Me
  now: number
  onDecided: () => void
}): ComponentChildren {
  const { request, now, onDecided } = props
  const [comment, setComment] = useState('')
  const [error, setError] = useState<ApiError | null>(null)
  const [busy, setBusy] = useState(false)
  const decide = async (path: 'approve' | 'reject'): Promise<void> => {
    const text = comment.trim()
    if (path === 'reject' && text === '') {
      setError(new ApiError(0, 'Say why it is rejected: the requester reads it.', null))
      document.getElementById('comment')?.focus()
      return
    }
    setBusy(true)
    setError(null)
    try {
      const body = path === 'reject' ? { reason: text } : text === '' ? {} : { comment: text }
      await post(`/v1/approvals/${encodeURIComponent(request.id)}/${path}`, body)
      onDecided()
    } catch (thrown) {
      setError(thrown instanceof ApiError ? thrown : new ApiError(0, String(thrown), null))
    }
    setBusy(false)
  }
  return h(
    Card,
    {
      title: `${visible(request.identity.user, 60)} asks`,
      note: [h(Badge, { word: request.state }), request.held ? ' the client waits' : ''],
    },
    h(Sql, { text: request.statement.text }),
    h('p', { class: 'verdict' }, visible(request.reason, 2_000)),
    h(Votes, { request, now }),
    request.outcome === null ? null : h('p', { class: 'notice' }, visible(request.outcome, 1_000)),
    request.state !== 'pending'
      ? null
      : request.may_decide
        ? h(
            'form',
            { class: 'decide', onSubmit: (event: SubmitEvent) => event.preventDefault() },
            h(
              'label',
              { for: 'comment' },
              'Comment ',
              h('span', { class: 'note' }, '(required to reject)'),
            ),
            h('textarea', {
              id: 'comment',
              rows: 2,
              maxLength: 2_000,
              value: comment,
              onInput: (event: Event) =>
                setComment((event.currentTarget as HTMLTextAreaElement).value),
            }),
            h(
              'div',
              { class: 'buttons' },
              h(
                'button',
                {
                  type: 'button',
                  class: 'primary',
                  disabled: busy,
                  onClick: () => void decide('approve'),
                },
                'Approve',
              ),
              h(
                'button',
                {
                  type: 'button',
                  class: 'danger',
                  disabled: busy,
                  onClick: () => void decide('reject'),
                },
                'Reject',
              ),
              h(
                'span',
                { class: 'note' },
                `expires ${now < Date.parse(request.expires) ? 'in ' : ''}${span(Date.parse(request.expires) - now)}`,
              ),
            ),
          )
        : h(
            'p',
            { class: 'notice' },
            `You may not decide this: ${visible(request.may_not_because ?? 'it is not asked of your groups', 500)}.`,
          ),
    error === null ? null : h(Failure, { error }),
  )
}

function Votes({ request, now }: { request: Detail; now: number }): ComponentChildren {
  return h(
    'ul',
    { class: 'plain votes' },
    request.requirements.map((one) =>
      h(
        'li',
        null,
        `${one.given} of ${one.quorum} from `,
        one.groups.map((group) => h('span', { class: 'tag' }, visible(group, 60))),
      ),
    ),
    request.votes.map((vote) =>
      h(
        'li',
        null,
        h('strong', null, visible(vote.by, 80)),
        ` ${vote.vote === 'approve' ? 'approved' : 'rejected'} `,
        h(Time, { at: vote.at, now }),
        vote.comment === null ? '' : `: ${visible(vote.comment, 2_000)}`,
      ),
    ),
  )
}

function About({ request, now }: { request: Detail; now: number }): ComponentChildren {
  const { estimate } = request
  return h(
    'div',
    null,
    h(
      Card,
      {
        title: 'What it would do',
        note:
          estimate === null
            ? null
            : `about ${plural(estimate.rows_max, 'row')}, cost ${count(estimate.cost)}`,
      },
      request.statements.map((one, index) => [
        request.statements.length > 1 ? h(Sql, { text: one.text }) : null,
        h(
          'p',
          { class: 'note', key: index },
          h(Badge, { word: one.action }),
          ` ${one.kind} `,
          h('code', null, visible(one.rule, 200)),
        ),
        h(AccessView, { access: one.access, masks: masksOf(one) }),
      ]),
      estimate === null
        ? null
        : h('p', { class: 'note plan' }, `Plan: ${visible(estimate.nodes.join(' → '), 500)}`),
      request.parameters === null || request.parameters.length === 0
        ? null
        : h(
            'details',
            { open: true },
            h('summary', null, 'Parameters'),
            h(
              'ol',
              null,
              request.parameters.map((one) =>
                h(
                  'li',
                  null,
                  one.value === null
                    ? h('span', { class: 'note' }, 'NULL')
                    : h('code', { class: 'break' }, visible(one.value, 1_000)),
                  one.format === 'binary' ? h('span', { class: 'note' }, ' base64') : null,
                ),
              ),
            ),
          ),
      request.settings.length === 0
        ? null
        : h(
            'ul',
            { class: 'plain' },
            request.settings.map((one) =>
              h(
                'li',
                null,
                h('code', null, visible(one.name, 100)),
                ` ${visible(one.from ?? '?', 200)} → ${visible(one.to ?? '?', 200)}`,
              ),
            ),
          ),
    ),
    h(Who, { request, now }),
  )
}

function Who({ request, now }: { request: Detail; now: number }): ComponentChildren {
  const { identity, transaction } = request
  return h(
    Card,
    { title: 'Who and where' },
    facts([
      [
        'Who',
        [
          visible(identity.subject, 200),
          ' ',
          identity.groups.map((group) => h('span', { class: 'tag' }, visible(group, 60))),
        ],
      ],
      [
        'How',
        `${identity.method}, ${identity.type}${identity.on_behalf_of === null ? '' : `, for ${visible(identity.on_behalf_of, 100)}`}`,
      ],
      ['Database', `${visible(request.database, 100)} as ${visible(request.current_role, 100)}`],
      [
        'Client',
        `${visible(request.application_name, 200) || '–'} from ${visible(request.client_address, 100)}`,
      ],
      ['Rule', h('code', { class: 'break' }, visible(request.rule, 200))],
      ['Revision', h('code', { class: 'break' }, visible(request.policy_revision, 200))],
      ['Transaction', transactionWords(transaction, now)],
      ['Reviewers told', deliveryWords(request.deliveries)],
      [
        'Session',
        link(`/audit?session=${encodeURIComponent(request.session)}`, 'what it did before'),
      ],
      ['Request', h('code', { class: 'break' }, visible(request.id, 60))],
    ]),
  )
}

function masksOf(statement: Detail['statements'][number]): ReadonlyMap<number, string | null> {
  // By position: two outputs may have one name, and only one of them a mask.
  const kinds = new Map(statement.masks.map((mask) => [mask.index, mask.kind]))
  return new Map(
    statement.access.outputs.map((output) => [output.index, kinds.get(output.index) ?? null]),
  )
}
