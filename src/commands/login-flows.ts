/**
 * How `regate login` gets a token: refresh, device flow (RFC 8628), browser flow with PKCE (RFC 8252,
 * RFC 7636). All of OAuth is openid-client's; here is what a terminal adds.
 */
import { spawn } from 'node:child_process'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { decodeJwt } from 'jose'
import * as oidc from 'openid-client'
import { isAllowedUrl } from '../identity/identity.ts'
import { CommandFailure } from './failure.ts'
import type { StoredLogin } from './login-store.ts'

export interface LoginOptions {
  readonly issuer: string
  readonly clientId: string
  readonly clientSecret: string | null
  readonly scope: string
  /** RFC 8707; null: the issuer's default. */
  readonly resource: string | null
  /** Auth0 and others name the API by `audience`. */
  readonly audience: string | null
  /** Which token goes to PostgreSQL. */
  readonly token: 'access' | 'id'
  /** Tells the person something; on stderr. */
  readonly tell: (line: string) => void
  readonly openBrowser: boolean
  /** Gives up after this. */
  readonly signal: AbortSignal
}

const redirectPath = '/callback'

/** Finds the issuer's endpoints. */
export async function discover(options: LoginOptions): Promise<oidc.Configuration> {
  const { issuer, clientId, clientSecret } = options
  if (!isAllowedUrl(issuer)) {
    throw new CommandFailure(`${issuer} is neither https nor on this machine`, {
      hint: 'a token may only be fetched over https',
      misuse: true,
    })
  }
  try {
    return await oidc.discovery(
      new URL(issuer),
      clientId,
      undefined,
      clientSecret === null ? oidc.None() : oidc.ClientSecretBasic(clientSecret),
      // Deprecated to make it stand out; isAllowedUrl lets plain http pass to loopback alone.
      // eslint-disable-next-line @typescript-eslint/no-deprecated
      issuer.startsWith('http:') ? { execute: [oidc.allowInsecureRequests] } : {},
    )
  } catch (error) {
    throw new CommandFailure(`the issuer ${issuer} cannot be used`, {
      hint: 'is it the issuer itself, without /.well-known/openid-configuration?',
      cause: error,
    })
  }
}

/** A new token for a refresh token; null where the issuer wants a new login. */
export async function refreshLogin(
  configuration: oidc.Configuration,
  refreshToken: string,
  options: LoginOptions,
): Promise<StoredLogin | null> {
  try {
    const answer = await oidc.refreshTokenGrant(configuration, refreshToken, target(options))
    return loginOf(answer, options, refreshToken)
  } catch (error) {
    if (error instanceof oidc.ResponseBodyError && error.error === 'invalid_grant') return null
    throw failed('the token could not be refreshed', error)
  }
}

/** The code is typed in on any device; works where there is no browser. */
export async function deviceLogin(
  configuration: oidc.Configuration,
  options: LoginOptions,
): Promise<StoredLogin> {
  try {
    const started = await oidc.initiateDeviceAuthorization(configuration, {
      scope: options.scope,
      ...target(options),
    })
    const direct = started.verification_uri_complete
    options.tell(`Open ${started.verification_uri} and enter the code ${started.user_code}`)
    if (direct !== undefined) options.tell(`or open ${direct}`)
    if (options.openBrowser) open(direct ?? started.verification_uri)
    const answer = await oidc.pollDeviceAuthorizationGrant(configuration, started, undefined, {
      signal: options.signal,
    })
    return loginOf(answer, options, null)
  } catch (error) {
    throw failed('the device login failed', error)
  }
}

/** The browser comes back to a port of loopback. */
export async function browserLogin(
  configuration: oidc.Configuration,
  options: LoginOptions,
): Promise<StoredLogin> {
  const server = createServer()
  await listen(server)
  const { port } = server.address() as AddressInfo
  const redirectUri = `http://127.0.0.1:${port}${redirectPath}`
  const verifier = oidc.randomPKCECodeVerifier()
  const state = oidc.randomState()
  try {
    const url = oidc.buildAuthorizationUrl(configuration, {
      redirect_uri: redirectUri,
      scope: options.scope,
      state,
      code_challenge: await oidc.calculatePKCECodeChallenge(verifier),
      code_challenge_method: 'S256',
      ...(options.scope.split(' ').includes('offline_access') ? { prompt: 'consent' } : {}),
      ...target(options),
    })
    options.tell(`Open ${url.href}`)
    if (options.openBrowser) open(url.href)
    const callback = await waitForCallback(server, redirectUri, options.signal)
    const answer = await oidc.authorizationCodeGrant(
      configuration,
      callback,
      { pkceCodeVerifier: verifier, expectedState: state },
      target(options),
    )
    return loginOf(answer, options, null)
  } catch (error) {
    throw failed('the login in the browser failed', error)
  } finally {
    server.closeAllConnections()
    server.close()
  }
}

function listen(server: Server): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', resolve)
  })
}

/** The first request for the redirect path; others (favicon) are 404. */
function waitForCallback(server: Server, redirectUri: string, signal: AbortSignal): Promise<URL> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      reject(signal.reason as Error)
    }
    if (signal.aborted) onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    server.on('request', (request, response) => {
      const url = new URL(request.url ?? '/', redirectUri)
      response.setHeader('content-type', 'text/plain; charset=utf-8')
      response.setHeader('connection', 'close')
      if (request.method !== 'GET' || url.pathname !== redirectPath) {
        response.statusCode = 404
        response.end('nothing here\n')
        return
      }
      response.end('You may close this window and go back to the terminal.\n', () => {
        signal.removeEventListener('abort', onAbort)
        resolve(url)
      })
    })
  })
}

function target(options: LoginOptions): Record<string, string> {
  return {
    ...(options.resource === null ? {} : { resource: options.resource }),
    ...(options.audience === null ? {} : { audience: options.audience }),
  }
}

function loginOf(
  answer: oidc.TokenEndpointResponse,
  options: LoginOptions,
  refreshBefore: string | null,
): StoredLogin {
  const token = options.token === 'id' ? answer.id_token : answer.access_token
  if (token === undefined) {
    throw new CommandFailure('the issuer gave no ID token', { hint: 'add openid to --scope' })
  }
  let expiry: number | undefined
  try {
    expiry = decodeJwt(token).exp
  } catch (error) {
    throw new CommandFailure('the issuer gave a token that is no JWT', {
      hint: 'name the API by --resource or --audience, or use --token id',
      cause: error,
    })
  }
  const lifetimeMs = (answer.expires_in ?? 0) * 1000
  return {
    token,
    refreshToken: answer.refresh_token ?? refreshBefore,
    expiresAtMs: expiry === undefined ? Date.now() + lifetimeMs : expiry * 1000,
  }
}

/**
 * Tries the desktop's own opener; the address was printed, so a failure is nobody's business. Only for
 * what a browser opens: the issuer chooses the address, and an opener starts programs and files, too.
 */
function open(url: string): void {
  if (!isAllowedUrl(url)) return
  const [program, ...args] =
    process.platform === 'darwin'
      ? ['open', url]
      : process.platform === 'win32'
        ? ['rundll32', 'url.dll,FileProtocolHandler', url]
        : ['xdg-open', url]
  const child = spawn(program ?? '', args, { stdio: 'ignore', detached: true })
  child.on('error', () => undefined)
  child.unref()
}

/** The issuer's own words, without anything secret: openid-client's errors hold no token. */
function failed(what: string, error: unknown): CommandFailure {
  if (error instanceof CommandFailure) return error
  if (error instanceof oidc.ResponseBodyError) {
    const described = error.error_description ?? ''
    return new CommandFailure(
      `${what}: ${error.error}${described === '' ? '' : ` (${described})`}`,
      {
        cause: error,
      },
    )
  }
  if (error instanceof Error && error.name === 'TimeoutError') {
    return new CommandFailure(`${what}: nobody logged in in time`)
  }
  return new CommandFailure(what, { cause: error })
}
