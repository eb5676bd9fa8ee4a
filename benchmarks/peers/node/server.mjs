// A JWT-checking proxy as it is written with Express: jsonwebtoken in a middleware, then http-proxy.
// Arguments: port, port of the service, public key file, algorithm, and for TLS the certificate and its key.
import fs from "node:fs";
import http from "node:http";
import https from "node:https";
import express from "express";
import httpProxy from "http-proxy";
import jwt from "jsonwebtoken";

const [port, upstream, keyFile, algorithm, certFile, certKeyFile] = process.argv.slice(2);
const publicKey = fs.readFileSync(keyFile);
const options = { algorithms: [algorithm], issuer: "https://idp.test/", audience: "api" };

const app = express();
app.disable("x-powered-by");

app.use((req, res, next) => {
  const [scheme, token] = (req.headers.authorization ?? "").split(" ");
  if (scheme !== "Bearer" || !token) {
    return res.status(401).json({ error: "missing_token" });
  }
  try {
    req.user = jwt.verify(token, publicKey, options);
  } catch {
    return res.status(401).json({ error: "invalid_token" });
  }
  delete req.headers.authorization;
  req.headers["x-user-id"] = req.user.sub;
  req.headers["x-user-role"] = req.user.role;
  req.headers["x-scope"] = req.user.scope;
  next();
});

const proxy = httpProxy.createProxyServer({
  target: `http://127.0.0.1:${upstream}`,
  agent: new http.Agent({ keepAlive: true }),
});
proxy.on("error", (_error, _req, res) => {
  if (res.writeHead && !res.headersSent) res.writeHead(502);
  res.end();
});
app.use((req, res) => proxy.web(req, res));

const server = certFile
  ? https.createServer({ cert: fs.readFileSync(certFile), key: fs.readFileSync(certKeyFile) }, app)
  : http.createServer(app);
server.listen(Number(port), "127.0.0.1", 4096);
process.on("SIGTERM", () => process.exit(0));
