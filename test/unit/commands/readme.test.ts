/**
 * The README is run: its start command, every command it shows with what it says comes out, and
 * every link. What it says and what happens cannot drift apart.
 */
import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { parseConfiguration } from '../../../src/config/config.ts'

const readme = readFileSync('README.md', 'utf8')
const shown = [...readme.matchAll(/```console\n\$ (.*)\n([\s\S]*?)```/g)].map(
  ([, command = '', output = '']) => ({ command, output }),
)

/** Ids differ from run to run. */
function steady(text: string): string {
  return text
    .replace(/decision \S+, policy revision \S+\.$/gm, 'decision …, policy revision ….')
    .trim()
}

describe('the README', () => {
  let port = 0
  let demo: ReturnType<typeof spawn> | null = null
  beforeAll(async () => {
    expect(readme).toContain('npm ci && npm start')
    const script = (
      JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: { start: string } }
    ).scripts.start
    expect(script).toBe('node dist/main.js demo')
    const child = spawn(process.execPath, [
      'dist/main.js',
      'demo',
      '--port',
      '16432',
      '--admin-port',
      '18432',
    ])
    demo = child
    let out = ''
    await new Promise<void>((resolve, reject) => {
      child.stdout.on('data', (chunk: Buffer) => {
        out += chunk.toString()
        if (out.includes('Ctrl-C ends everything')) resolve()
      })
      child.once('exit', () => reject(new Error(`the demo ended: ${out}`)))
    })
    port = Number(/regate listens on 127\.0\.0\.1:(\d+)/.exec(out)?.[1])
  }, 60_000)
  afterAll(async () => {
    if (demo === null) return
    const ended = new Promise((resolve) => demo?.once('exit', resolve))
    demo.kill('SIGINT')
    await ended
  })

  test('shows commands', () => expect(shown.length).toBeGreaterThanOrEqual(3))

  test.each(shown)('$command', async ({ command, output }) => {
    const line = command.replace('npx --no regate', `"${process.execPath}" dist/main.js`)
    const result = await new Promise<string>((resolve) => {
      const child = spawn('/bin/sh', ['-c', line], {
        env: { ...process.env, PGPORT: String(port) },
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      let text = ''
      child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()))
      child.on('close', () => resolve(text))
    })
    expect(steady(result)).toBe(steady(output))
  })
})

test('the configuration in the README is one', () => {
  const text = /```yaml\n([\s\S]*?)```/.exec(readme)?.[1] ?? ''
  const loaded = parseConfiguration(text, 'regate.yaml', { SHOP_PASSWORD: 'x' })
  const errors = loaded.kind === 'ok' ? [] : loaded.errors
  // The files that it names are the reader's own.
  expect(errors.filter((error) => !error.message.includes('does not exist'))).toEqual([])
})

test('the image: what the guide configures is right, writable and asked whether it lives', () => {
  const guide = readFileSync('docs/guides/operations.md', 'utf8')
  const text = /```yaml\n([\s\S]*?)```/.exec(guide)?.[1] ?? ''
  const loaded = parseConfiguration(text, '/etc/regate/regate.yaml', { SHOP_PASSWORD: 'x' })
  const errors = loaded.kind === 'ok' ? [] : loaded.errors
  expect(errors.filter((error) => !error.message.includes('does not exist'))).toEqual([])
  expect(parse(text)).toMatchObject({ listen: { host: '0.0.0.0' } })
  const dockerfile = readFileSync('Dockerfile', 'utf8')
  const [, volume = ''] = /^VOLUME (.+)$/m.exec(dockerfile) ?? []
  // Where the default of audit.directory leads from the configuration that the image is started with.
  expect(dockerfile).toContain(`ln -s ${volume} /etc/regate/regate-data`)
  expect(dockerfile).toContain('"--config", "/etc/regate/regate.yaml"')
  expect(/^HEALTHCHECK .*$/m.exec(dockerfile)?.[0]).toContain('/livez')
})

test('links of the documents lead somewhere', () => {
  const pages = [
    'README.md',
    'docs/getting-started.md',
    'docs/limits.md',
    'docs/configuration.md',
    'docs/decisions/README.md',
  ]
  for (const page of pages) {
    const text = readFileSync(page, 'utf8').replace(/```[\s\S]*?```/g, '')
    for (const [, target = ''] of text.matchAll(/\]\(([^)#]+)[^)]*\)/g)) {
      if (/^https?:/.test(target)) continue
      expect(existsSync(join(dirname(page), target)), `${page} → ${target}`).toBe(true)
    }
  }
})

test('what is generated from the configuration schema is up to date', async () => {
  const { configurationJsonSchema } = await import('../../../src/config/config.ts')
  const { withLimitTexts } = await import('../../../scripts/limit-texts.mjs')
  const written: unknown = JSON.parse(readFileSync('docs/regate.schema.json', 'utf8'))
  expect(written).toEqual(JSON.parse(JSON.stringify(withLimitTexts(configurationJsonSchema()))))
})
