/**
 * The README is run: its start command, every command it shows with what it says comes out, and
 * every link. What it says and what happens cannot drift apart.
 */
import { spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import yargs from 'yargs'
import { registerCommands } from '../../../src/commands/commands.ts'
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

const pages = [
  'README.md',
  'CHANGELOG.md',
  ...readdirSync('docs', { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => join('docs', name)),
]
const proseOf = (page: string): string =>
  readFileSync(page, 'utf8').replace(/^```[\s\S]*?^```$/gm, '')

/** As GitHub makes them of headings. */
function anchorsOf(page: string): ReadonlySet<string> {
  const headings = [...proseOf(page).matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) => heading)
  const plain = headings.map((heading) => heading.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1'))
  return new Set(
    plain.map((heading) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N}\- _]/gu, '')
        .replaceAll(' ', '-'),
    ),
  )
}

test.each(pages)('links of %s lead somewhere', (page) => {
  for (const [, target = ''] of proseOf(page).matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^https?:/.test(target)) continue
    const [file = '', anchor] = target.split('#')
    const path = file === '' ? page : join(dirname(page), file)
    expect(existsSync(path), target).toBe(true)
    if (anchor !== undefined && path.endsWith('.md')) {
      expect([...anchorsOf(path)], target).toContain(anchor)
    }
  }
})

test('commands that the documents name exist, with the options that they name', async () => {
  const unknown: string[] = []
  const helps = new Map<string, string>()
  for (const page of pages.filter((name) => name !== 'CHANGELOG.md')) {
    const text = readFileSync(page, 'utf8')
    for (const [, line = ''] of text.matchAll(
      /(?:^|[`($ ])(?<!exec )regate ((?:[a-z]+ ?)+[^`\n|]*)/gm,
    )) {
      const words = /^(?:[a-z]+(?: |$))+/.exec(line)?.[0].trim().split(' ') ?? []
      const named = words.slice(0, commandsWithParts.has(words[0] ?? '') ? 2 : 1).join(' ')
      const options = [...line.matchAll(/(?<=\s)(--[a-z][a-z-]+|-[a-z])(?=[\s=`)]|$)/g)]
      // Prose begins with the name as well.
      if (options.length === 0) continue
      const help = helps.get(named) ?? (await helpOf(named))
      helps.set(named, help)
      for (const [, option = ''] of options) {
        const shown = option.replace(/^--no-/, '--')
        if (!new RegExp(`(?<![\\w-])${shown}(?![\\w-])`).test(help)) {
          unknown.push(`${page}: regate ${line} (${option})`)
        }
      }
    }
  }
  expect(unknown).toEqual([])
  expect(helps.size).toBeGreaterThan(10)
})

const commandsWithParts = new Set(['policy', 'audit', 'catalog', 'approvals', 'user'])

async function helpOf(command: string): Promise<string> {
  let help = ''
  const parser = registerCommands(yargs()).exitProcess(false)
  await parser.parseAsync([...command.split(' '), '--help'], {}, (_error, _arguments, output) => {
    help = output
  })
  return help
}

test('what is generated from the configuration schema is up to date', async () => {
  const { configurationJsonSchema } = await import('../../../src/config/config.ts')
  const { withLimitTexts } = await import('../../../scripts/limit-texts.mjs')
  const written: unknown = JSON.parse(readFileSync('docs/regate.schema.json', 'utf8'))
  expect(written).toEqual(JSON.parse(JSON.stringify(withLimitTexts(configurationJsonSchema()))))
})
