// The OpenID-certified oidc-provider as an issuer of access tokens by client credentials: at+jwt (RFC 9068), or opaque
// ones, about which it answers questions (RFC 7662) and which it revokes (RFC 7009).
//
// Only this set-up lives here; tests/peers/oidc_provider/__init__.py starts and stops it. From the environment:
//   PORT       where to listen on loopback; 0 lets the system pick
//   JWKS_FILE  the private signing keys; the first one signs, all of them are published
//   RESOURCES  JSON object: resource indicator (RFC 8707), which becomes `aud` -> the scopes that it knows
//   OPAQUE     JSON array: the resources whose tokens are opaque
//   CLIENT_ID, CLIENT_SECRET
//   CLIENTS    JSON array: metadata of further clients
//   TLS_CERT, TLS_KEY, TLS_CLIENT_CA  files, for https with client certificates: the tokens of the client
//              `<CLIENT_ID>-tls` are bound to its certificate (RFC 8705)
// Whoever shows a DPoP proof, with the nonce that is asked for, gets a token that is bound to its key (RFC 9449).
// It prints one line, `listening <issuer>`, and ends when its standard input closes, so it cannot outlive the tests.
import { readFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import Provider, { errors } from 'oidc-provider';

const { PORT = '0', JWKS_FILE, RESOURCES, OPAQUE = '[]', CLIENT_ID, CLIENT_SECRET, CLIENTS = '[]' } = process.env;
const { TLS_CERT, TLS_KEY, TLS_CLIENT_CA } = process.env;
const resources = JSON.parse(RESOURCES);
const opaque = JSON.parse(OPAQUE);

function getResourceServerInfo(ctx, resource) {
  if (!Object.hasOwn(resources, resource)) throw new errors.InvalidTarget();
  return {
    audience: resource,
    scope: resources[resource],
    accessTokenTTL: 600,
    accessTokenFormat: opaque.includes(resource) ? 'opaque' : 'jwt',
    jwt: { sign: { alg: 'RS256' } },
  };
}

const bound = { tls_client_certificate_bound_access_tokens: true };
const client = (id, more = {}) => ({
  client_id: id,
  client_secret: CLIENT_SECRET,
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
  ...more,
});

const configuration = {
  jwks: JSON.parse(readFileSync(JWKS_FILE, 'utf8')),
  clients: [client(CLIENT_ID), ...(TLS_CERT ? [client(`${CLIENT_ID}-tls`, bound)] : []), ...JSON.parse(CLIENTS)],
  // A claim of the deployment's own, as real ones add them.
  extraTokenClaims: () => ({ role: 'merchant' }),
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    dPoP: { enabled: true, nonceSecret: randomBytes(32), requireNonce: () => true },
    mTLS: {
      enabled: Boolean(TLS_CERT),
      certificateBoundAccessTokens: true,
      getCertificate: (ctx) => ctx.socket.getPeerX509Certificate()?.toString(),
    },
    resourceIndicators: { enabled: true, getResourceServerInfo },
  },
};

// The issuer holds the port, so the port must be known before the provider is made.
const server = TLS_CERT
  ? createSecureServer({
      cert: readFileSync(TLS_CERT),
      key: readFileSync(TLS_KEY),
      ca: readFileSync(TLS_CLIENT_CA),
      requestCert: true,
      rejectUnauthorized: false,
    })
  : createServer();
server.listen(Number(PORT), '127.0.0.1', () => {
  const issuer = `${TLS_CERT ? 'https' : 'http'}://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, configuration);
  provider.on('server_error', (ctx, error) => console.error(error));
  server.on('request', provider.callback());
  console.log(`listening ${issuer}`);
});
process.stdin.on('end', () => process.exit(0)).resume();
