/** The proxy that kill.ts kills: tells its port. Ends when whoever started it has gone. */
import { pino } from 'pino'
import { startRuntime } from '../../src/commands/runtime.ts'
import { loadConfiguration } from '../../src/config/config.ts'

const loaded = await loadConfiguration(process.argv[2] ?? '', process.env)
if (loaded.kind === 'errors') throw new Error(JSON.stringify(loaded.errors))
const runtime = await startRuntime({
  configuration: loaded.configuration,
  environment: process.env,
  log: pino({ level: 'silent' }),
})
process.on('disconnect', () => process.exit(1))
process.send?.({ port: runtime.port })
