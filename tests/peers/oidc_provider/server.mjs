// The OpenID-certified oidc-provider as an issuer of at+jwt access tokens (RFC 9068) by client credentials.
//
// Only this set-up lives here; tests/peers/oidc_provider/__init__.py starts and stops it. From the environment:
//   PORT       where to listen on loopback; 0 lets the system pick
//   JWKS_FILE  the private signing keys; the first one signs, all of them are published
//   RESOURCES  JSON object: resource indicator (RFC 8707), which becomes `aud` -> the scopes that it knows
//   CLIENT_ID, CLIENT_SECRET
// It prints one line, `listening <issuer>`, and ends when its standard input closes, so it cannot outlive the tests.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import Provider, { errors } from 'oidc-provider';

const { PORT = '0', JWKS_FILE, RESOURCES, CLIENT_ID, CLIENT_SECRET } = process.env;
const resources = JSON.parse(RESOURCES);

function getResourceServerInfo(ctx, resource) {
  if (!Object.hasOwn(resources, resource)) throw new errors.InvalidTarget();
  return {
    audience: resource,
    scope: resources[resource],
    accessTokenTTL: 600,
    accessTokenFormat: 'jwt',
    jwt: { sign: { alg: 'RS256' } },
  };
}

const configuration = {
  jwks: JSON.parse(readFileSync(JWKS_FILE, 'utf8')),
  clients: [
    {
      client_id: CLIENT_ID,
      client_secret: CLIENT_SECRET,
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
    },
  ],
  // A claim of the deployment's own, as real ones add them.
  extraTokenClaims: () => ({ role: 'merchant' }),
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: { enabled: true, getResourceServerInfo },
  },
};

// The issuer holds the port, so the port must be known before the provider is made.
const server = createServer();
server.listen(Number(PORT), '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, configuration);
  provider.on('server_error', (ctx, error) => console.error(error));
  server.on('request', provider.callback());
  console.log(`listening ${issuer}`);
});
process.stdin.on('end', () => process.exit(0)).resume();
