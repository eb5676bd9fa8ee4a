// A JWT-checking proxy as it is written with Express: jsonwebtoken in a middleware, then http-proxy.
// Arguments: port, port of the service, public key file, algorithm, file of the access log (empty: none), and for TLS the
// certificate and its key.
import { randomUUID } from "node:crypto";
import fs from "node:fs";
import http from "node:http";
import https from "node:https";
import express from "express";
import httpProxy from "http-proxy";
import jwt from "jsonwebtoken";

const [port, upstream, keyFile, algorithm, logFile, certFile, certKeyFile] = process.argv.slice(2);
const publicKey = fs.readFileSync(keyFile);
const options = { algorithms: [algorithm], issuer: "https://idp.test/", audience: "api" };

const app = express();
app.disable("x-powered-by");

if (logFile) {
  const log = fs.createWriteStream(logFile, { flags: "a" });
  app.use((req, res, next) => {
    const began = performance.now();
    res.on("finish", () => {
      const fields = {
        time: new Date().toISOString(),
        request_id: req.headers["x-request-id"] ?? "",
        client: req.socket.remoteAddress,
        method: req.method,
        path: req.path,
        route: "/",
        status: res.statusCode,
        outcome: req.user ? "forwarded" : "refused",
        duration_ms: performance.now() - began,
        credential: "jwt",
        issuer: "main",
        subject: req.user?.sub ?? "",
        upstream: "service",
        bytes_in: Number(req.headers["content-length"] ?? 0),
        bytes_out: Number(res.getHeader("content-length") ?? 0),
      };
      log.write(JSON.stringify(fields) + "\n");
    });
    next();
  });
}

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
  req.headers["x-request-id"] ??= randomUUID();
  req.headers["x-user-id"] = req.user.sub;
  req.headers["x-user-role"] = req.user.role;
  req.headers["x-scope"] = req.user.scope;
  next();
});

const proxy = httpProxy.createProxyServer({
  target: `http://127.0.0.1:${upstream}`,
  agent: new http.Agent({ keepAlive: true }),
  xfwd: true,
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
