/** The frame around every page: navigation, who is signed in, whether live updates arrive. */
import { h, render, type FunctionComponent, type ComponentChildren } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import { live } from './api.ts'
import { Approvals } from './approvals.ts'
import { Audit } from './audit.ts'
import { Overview } from './overview.ts'
import { link, shown, useBeat, useLoad, type Me } from './parts.ts'
import { PolicyPage } from './policy.ts'
import { Sessions } from './sessions.ts'
import { visible } from './words.ts'

interface Page {
  readonly path: string
  readonly title: string
  readonly view: FunctionComponent<{ me: Me }>
  /** Roles that see it. */
  readonly roles: readonly string[]
}

const all = ['admin', 'viewer']
const pages: readonly Page[] = [
  { path: '/', title: 'Overview', view: Overview, roles: all },
  { path: '/sessions', title: 'Sessions', view: Sessions, roles: all },
  { path: '/approvals', title: 'Approvals', view: Approvals, roles: [...all, 'reviewer'] },
  { path: '/audit', title: 'Audit', view: Audit, roles: all },
  { path: '/policy', title: 'Policy', view: PolicyPage, roles: all },
]

function App(): ComponentChildren {
  const me = useLoad<Me>('/v1/me')
  return h(
    'div',
    { class: 'app' },
    shown(me, (person) => h(Frame, { me: person })),
  )
}

function Frame({ me }: { me: Me }): ComponentChildren {
  const path = usePath()
  const mine = pages.filter(({ roles }) => roles.some((role) => me.roles.includes(role)))
  const page = mine.find((one) => one.path === path) ?? mine[0]
  return h(
    'div',
    { class: 'frame' },
    h('a', { class: 'skip', href: '#content' }, 'Skip to content'),
    h(
      'header',
      { class: 'bar' },
      link('/', [h('img', { src: '/assets/icon.svg', alt: '', width: 22, height: 22 }), 'regate'], {
        class: 'brand',
      }),
      h(
        'nav',
        { 'aria-label': 'Pages' },
        mine.map(({ path: to, title }) =>
          link(to, [title, to === '/approvals' ? h(Waiting, null) : null], {
            'aria-current': page?.path === to ? 'page' : undefined,
          }),
        ),
      ),
      h(Pulse, null),
      h(Person, { me }),
    ),
    h(
      'main',
      { id: 'content', tabIndex: -1 },
      page === undefined
        ? h(
            'p',
            { class: 'empty' },
            'You are signed in, and none of your groups may see anything here.',
          )
        : h(page.view, { me, key: page.path }),
    ),
  )
}

/** How many requests wait for somebody. */
function Waiting(): ComponentChildren {
  const beat = useBeat(5_000)
  const list = useLoad<{ approvals: readonly unknown[] }>('/v1/approvals?state=pending&limit=100')
  useEffect(() => {
    if (beat > 0) list.again()
  }, [beat])
  const count = list.value?.approvals.length ?? 0
  if (count === 0) return null
  const words = count === 100 ? '99+' : String(count)
  return h('span', { class: 'count' }, words, h('span', { class: 'hidden' }, ' waiting'))
}

function Pulse(): ComponentChildren {
  const [open, setOpen] = useState<boolean | null>(null)
  useEffect(() => live.onState(setOpen), [])
  const word = open === false ? 'No updates' : 'Live'
  return h('span', { class: `pulse ${open === false ? 'off' : 'on'}`, role: 'status' }, word)
}

function Person({ me }: { me: Me }): ComponentChildren {
  if (!me.signed_in) return h('span', { class: 'person note' }, 'no sign-in')
  return h(
    'form',
    { class: 'person', method: 'post', action: '/sign-out' },
    h(
      'span',
      { title: me.groups.map((group) => visible(group, 100)).join(', ') },
      visible(me.subject ?? '', 60),
    ),
    h('button', { type: 'submit', class: 'quiet' }, 'Sign out'),
  )
}

/** The path that is shown; a change of the query alone shows the page anew too. */
function usePath(): string {
  const read = (): string => location.pathname + location.search
  const [address, setAddress] = useState(read())
  useEffect(() => {
    const change = (): void => setAddress(read())
    addEventListener('popstate', change)
    return () => removeEventListener('popstate', change)
  }, [])
  return address.split('?')[0] ?? '/'
}

const root = document.getElementById('app')
if (root !== null) {
  root.replaceChildren()
  render(h(App, null), root)
}
