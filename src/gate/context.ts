/** What a judgement can depend on besides the text. */
import type {
  ApprovalDocument,
  IdentityDocument,
  SessionDocument,
  VolatileInputs,
} from '../policy/policy.ts'
import type { Catalog, SessionFacts } from '../sql/sql.ts'

/** Everything besides the text that a judgement can depend on. */
export interface JudgeContext {
  /** Stands for all of it: equal keys, equal judgement. The same string object while unchanged. */
  readonly key: string
  readonly protocol: 'simple' | 'extended'
  readonly identity: IdentityDocument
  readonly session: SessionDocument
  readonly facts: SessionFacts
  readonly catalog: Catalog
  /** Settings that the connect policy locked, lower case. */
  readonly locked: ReadonlySet<string>
  readonly approval: ApprovalDocument | null
  /** What a bundle may declare that changes by itself; asked only where it is declared. */
  volatile(): VolatileInputs | null
}
