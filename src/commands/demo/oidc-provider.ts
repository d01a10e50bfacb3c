/**
 * A real OIDC provider (`oidc-provider`) on loopback for the demo and the tests: people who log in by
 * device or browser flow, machines by client credentials, signed access tokens for regate.
 *
 * Never for anything else: its login page believes every password, its keys live in memory.
 */
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, generateKeyPair, type JWK } from 'jose'
import type * as OidcProvider from 'oidc-provider'
import type { Provider, Configuration, ResourceServer } from 'oidc-provider'
import { CommandFailure } from '../failure.ts'

/** Who can log in. */
export interface DemoAccount {
  readonly id: string
  readonly name: string
  readonly email: string
  readonly groups: readonly string[]
}

/** A machine that gets tokens by its secret. */
export interface DemoMachine {
  readonly id: string
  readonly secret: string
  readonly groups: readonly string[]
}

export interface DemoProviderOptions {
  readonly accounts: readonly DemoAccount[]
  readonly machines: readonly DemoMachine[]
  /** `aud` of the access tokens. */
  readonly audience: string
  /** Seconds that a token lives. */
  readonly tokenSeconds?: number
  /** 0 or absent: any free port. */
  readonly port?: number
  /** Signing keys with their private parts; the first signs. Made when absent. */
  readonly keys?: readonly JWK[]
}

export interface DemoProvider {
  readonly issuer: string
  readonly port: number
  /** The public client of `regate login` and of `psql oauth_client_id=…`. */
  readonly clientId: string
  readonly keys: readonly JWK[]
  /** A signed access token of a person, as a login in the browser would give. */
  tokenOf(accountId: string): Promise<string>
  stop(): Promise<void>
}

/** The public client for people; no secret, PKCE. */
export const demoClientId = 'regate-cli'

/** The public client of the console; any port of loopback. */
export const demoConsoleClientId = 'regate-console'

/** A fresh private signing key. */
export async function makeSigningKey(keyId: string, algorithm = 'ES256'): Promise<JWK> {
  const { privateKey } = await generateKeyPair(algorithm, { extractable: true })
  return { ...(await exportJWK(privateKey)), kid: keyId, use: 'sig', alg: algorithm }
}

/** Starts the provider; throws where the port is taken. */
export async function startDemoProvider(options: DemoProviderOptions): Promise<DemoProvider> {
  const { Provider, errors } = await quietly(loadLibrary)
  const keys = options.keys ?? [await makeSigningKey('demo-1')]
  const server = createServer()
  server.listen(options.port ?? 0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const issuer = `http://localhost:${port}`
  const resource = resourceServer(options, keys)
  const provider = await quietly(() => {
    const settings = configuration(options, keys, resource, () => new errors.InvalidTarget())
    return new Provider(issuer, settings)
  })
  // The library's own handler answers all paths below the issuer.
  const handle = provider.callback()
  server.on('request', (request, response) => void handle(request, response))
  return {
    issuer,
    port,
    clientId: demoClientId,
    keys,
    tokenOf: (accountId) => issueToken(provider, resource, accountId),
    stop: () => stopServer(server),
  }
}

/** Optional, as the demo is; before anything listens, which would keep the process alive. */
async function loadLibrary(): Promise<typeof OidcProvider> {
  try {
    return await import('oidc-provider')
  } catch (cause) {
    throw new CommandFailure('the demo needs the package oidc-provider, which is not installed', {
      hint: 'install regate with its optional dependencies (npm install --include=optional)',
      cause,
    })
  }
}

/** The library prints advice for production while it loads; here it would only worry people. */
async function quietly<T>(make: () => T | Promise<T>): Promise<T> {
  const { info, warn } = console
  const silent = (): void => undefined
  console.info = silent
  console.warn = silent
  try {
    return await make()
  } finally {
    console.info = info
    console.warn = warn
  }
}

async function stopServer(server: Server): Promise<void> {
  server.closeAllConnections()
  await new Promise<void>((resolve) => server.close(() => resolve()))
}

function resourceServer(options: DemoProviderOptions, keys: readonly JWK[]): ResourceServer {
  return {
    scope: 'openid db',
    audience: options.audience,
    accessTokenFormat: 'jwt',
    accessTokenTTL: options.tokenSeconds ?? 900,
    jwt: { sign: { alg: (keys[0]?.alg ?? 'ES256') as 'ES256' } },
  }
}

function configuration(
  options: DemoProviderOptions,
  keys: readonly JWK[],
  resource: ResourceServer,
  unknownResource: () => Error,
): Configuration {
  const lifetime = resource.accessTokenTTL ?? 900
  return {
    jwks: { keys: keys },
    clients: clients(options, keys),
    scopes: ['openid', 'offline_access', 'db'],
    claims: { openid: ['sub', 'email', 'name', 'groups'] },
    // Groups in the ID token, as most providers put them.
    conformIdTokenClaims: false,
    cookies: { keys: ['demo'] },
    features: features(options, resource, unknownResource),
    issueRefreshToken: (_ctx, client) => client.grantTypeAllowed('refresh_token'),
    ...people(options),
    ttl: {
      AccessToken: lifetime,
      ClientCredentials: lifetime,
      DeviceCode: 600,
      Grant: 86_400,
      IdToken: 900,
      Interaction: 600,
      RefreshToken: 86_400,
      Session: 86_400,
    },
    renderError: (ctx, out) => {
      ctx.type = 'json'
      ctx.body = out
    },
  }
}

function clients(
  options: DemoProviderOptions,
  keys: readonly JWK[],
): NonNullable<Configuration['clients']> {
  const algorithm = (keys[0]?.alg ?? 'ES256') as 'ES256'
  return [
    {
      client_id: demoClientId,
      token_endpoint_auth_method: 'none',
      id_token_signed_response_alg: algorithm,
      application_type: 'native',
      grant_types: [
        'authorization_code',
        'refresh_token',
        'urn:ietf:params:oauth:grant-type:device_code',
      ],
      response_types: ['code'],
      redirect_uris: ['http://127.0.0.1/callback'],
    },
    {
      client_id: demoConsoleClientId,
      token_endpoint_auth_method: 'none',
      id_token_signed_response_alg: algorithm,
      application_type: 'native',
      grant_types: ['authorization_code'],
      response_types: ['code'],
      redirect_uris: ['http://127.0.0.1/sign-in/callback', 'http://localhost/sign-in/callback'],
    },
    ...options.machines.map((machine) => ({
      client_id: machine.id,
      client_secret: machine.secret,
      id_token_signed_response_alg: algorithm,
      grant_types: ['client_credentials'],
      response_types: [],
      redirect_uris: [],
    })),
  ]
}

function features(
  options: DemoProviderOptions,
  resource: ResourceServer,
  unknownResource: () => Error,
): NonNullable<Configuration['features']> {
  const indicator = `urn:${options.audience}`
  return {
    devInteractions: { enabled: true },
    clientCredentials: { enabled: true },
    deviceFlow: {
      enabled: true,
      userCodeConfirmSource: (ctx, form) => {
        ctx.body = page(
          `${form}<button type="submit" form="op.deviceConfirmForm">Continue</button>`,
        )
      },
      successSource: (ctx) => {
        ctx.body = page('You are logged in. Go back to the terminal.')
      },
    },
    introspection: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => indicator,
      getResourceServerInfo: (_ctx, asked) => {
        if (asked !== indicator) throw unknownResource()
        return resource
      },
      useGrantedResource: () => true,
    },
  }
}

/** Who they are, in ID tokens and in access tokens. */
function people(
  options: DemoProviderOptions,
): Required<Pick<Configuration, 'findAccount' | 'extraTokenClaims'>> {
  const accounts = new Map(options.accounts.map((account) => [account.id, account]))
  const machines = new Map(options.machines.map((machine) => [machine.id, machine]))
  return {
    findAccount: (_ctx, id) => {
      const account = accounts.get(id)
      if (account === undefined) return undefined
      const { name, email, groups } = account
      return { accountId: id, claims: () => ({ sub: id, name, email, groups: [...groups] }) }
    },
    extraTokenClaims: (_ctx, token) => {
      if (token.kind === 'ClientCredentials') {
        return { groups: [...(machines.get(token.clientId ?? '')?.groups ?? [])] }
      }
      const account = 'accountId' in token ? accounts.get(token.accountId) : undefined
      if (account === undefined) return undefined
      const { name, email, groups } = account
      return { name, email, email_verified: true, groups: [...groups] }
    },
  }
}

function page(content: string): string {
  return `<!DOCTYPE html><meta charset="utf-8"><title>regate demo</title><h1>regate demo</h1>${content}`
}

async function issueToken(
  provider: Provider,
  resource: ResourceServer,
  accountId: string,
): Promise<string> {
  const client = await provider.Client.find(demoClientId)
  if (client === undefined) throw new Error('the demo client is not registered')
  const grant = new provider.Grant({ accountId, clientId: demoClientId })
  grant.addOIDCScope('openid')
  const token = new provider.AccessToken({
    accountId,
    client,
    grantId: await grant.save(),
    gty: 'authorization_code',
    scope: 'openid db',
  })
  token.resourceServer = new provider.ResourceServer(`urn:${resource.audience ?? ''}`, resource)
  return token.save()
}
