/**
 * The few pages that are made on the server: the shell that the browser's modules fill, and sign-in,
 * which works without any script. Everything that comes from outside is escaped here.
 */

/** Nothing is loaded from elsewhere, no script or style stands in a page, nobody may frame it. */
export const contentSecurityPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "form-action 'self'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ')

/** Headers of every page. `same-origin`, since without a referrer a form's Origin would be null. */
export const pageHeaders: Readonly<Record<string, string>> = {
  'content-security-policy': contentSecurityPolicy,
  'referrer-policy': 'same-origin',
  'x-frame-options': 'DENY',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': 'camera=(), geolocation=(), microphone=(), payment=(), usb=()',
}

/** Text as HTML shows it, in an element or in an attribute with double quotes. */
export function escaped(text: string): string {
  const entities: Readonly<Record<string, string>> = {
    ...{ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' },
  }
  return text.replace(/[&<>"']/g, (character) => entities[character] ?? '')
}

function document(title: string, head: string, body: string): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escaped(title)}</title>
<link rel="icon" href="/assets/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/assets/console.css">
${head}</head>
<body>
${body}
</body>
</html>
`
}

/** The page of every address of the console; what it shows comes from the API. */
export function shellPage(): string {
  return document(
    'regate',
    '<script type="module" src="/assets/main.js"></script>\n',
    `<div id="app"><p class="loading" role="status">Loading …</p></div>
<noscript><p class="notice">The console needs JavaScript. Everything it shows is also in the admin API and in the <code>regate</code> command.</p></noscript>`,
  )
}

export interface SignInPage {
  readonly oidc: boolean
  readonly token: boolean
  /** Where to go afterwards. */
  readonly to: string
  /** What went wrong the last time. */
  readonly problem: string | null
}

export function signInPage({ oidc, token, to, problem }: SignInPage): string {
  const parts = [
    '<main class="sign-in">',
    '<h1><img src="/assets/icon.svg" alt="" width="32" height="32"> regate</h1>',
    problem === null ? '' : `<p class="problem" role="alert">${escaped(problem)}</p>`,
  ]
  const destination = encodeURIComponent(to)
  if (oidc) {
    parts.push(
      `<p><a class="button primary" href="/sign-in/oidc?to=${escaped(destination)}">Sign in with your organization</a></p>`,
    )
  }
  if (token) {
    parts.push(
      `<form method="post" action="/sign-in/token">
<input type="hidden" name="to" value="${escaped(to)}">
<label for="token">Admin token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required maxlength="4096">
<button class="${oidc ? '' : 'primary'}" type="submit">Sign in with the token</button>
</form>`,
    )
  }
  parts.push('</main>')
  return document('Sign in · regate', '', parts.join('\n'))
}
