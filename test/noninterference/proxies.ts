/** regate before each world, with the shipped policies and the corpus' classification. */
import type { Mask } from '../../src/policy/policy.ts'
import { startProxy, type Proxy } from '../support/proxy.ts'
import { corpusText } from './cases.ts'
import { through, type Connect } from './compare.ts'
import { databaseName, type World, type Worlds } from './worlds.ts'
import type { Target } from './raw-connection.ts'

export interface Proxies {
  /** As a member of the group `agents`. */
  readonly connect: Connect
  stop(): Promise<void>
}

/** A classification in the shape of the pack's data: dotted column → class and mask. */
export type Classified = Readonly<Record<string, { class: string; mask: Mask }>>

interface PackData {
  regate: { columns: Classified; groups: { agents: object } }
}

/** `more` columns are classified beside those of the corpus; `rights` are merged over those of the agents. */
export async function startProxies(
  worlds: Worlds,
  more: Classified = {},
  rights: Readonly<Record<string, unknown>> = {},
): Promise<Proxies> {
  const corpus = JSON.parse(corpusText('data.json')) as PackData
  const columns = { ...corpus.regate.columns, ...more }
  // What would wait for a reviewer shows nothing: it runs here.
  const agents = { ...corpus.regate.groups.agents, unfiltered: 'allow', ...rights }
  const groups = { ...corpus.regate.groups, agents }
  const data = { regate: { ...corpus.regate, columns, groups } }
  const proxies: Proxy[] = []
  const targets = new Map<World['name'], Target>()
  for (const { name, server } of worlds.all) {
    const proxy = await startProxy(server, { data, groups: ['agents'] })
    proxies.push(proxy)
    targets.set(name, {
      host: proxy.host,
      port: proxy.port,
      user: 'agent',
      password: '',
      database: databaseName,
    })
  }
  return {
    connect: through(targets),
    stop: async () => {
      await Promise.all(proxies.map(async (proxy) => await proxy.stop()))
    },
  }
}
