/** Sinks of `kind: opa`: the audit's decisions go to services that take OPA's decision logs, too. */
import type { Logger } from 'pino'
import type { AuditLog } from '../audit/audit.ts'
import type { SinkConfiguration } from '../config/config.ts'
import { DecisionLog } from '../control/control.ts'
import { systemClock } from '../core/core.ts'
import { serviceOptions } from './policy-source.ts'
import type { Environment } from './wiring.ts'

/** Opens a decision log for each sink of that kind. */
export async function openDecisionLogs(
  sinks: readonly SinkConfiguration[],
  environment: Environment,
  log: Logger,
): Promise<readonly DecisionLog[]> {
  const logs: DecisionLog[] = []
  for (const sink of sinks) {
    if (sink.kind !== 'opa') continue
    logs.push(
      new DecisionLog({
        service: await serviceOptions(sink, environment),
        labels: { app: 'regate', id: String(process.pid) },
        bundleName: 'regate',
        clock: systemClock,
        onError: (error) => {
          log.warn({ err: error }, 'decision log: not delivered, kept for later')
        },
      }),
    )
  }
  return logs
}

/** The audit log, whose records are offered to the decision logs after it took them. */
export function withDecisionLogs(audit: AuditLog, logs: readonly DecisionLog[]): AuditLog {
  if (logs.length === 0) return audit
  return {
    append: (type, members) => {
      audit.append(type, members)
      for (const log of logs) log.offer(type, members)
    },
    commit: () => audit.commit(),
  }
}
