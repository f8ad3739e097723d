// better-auth as its documents have it: PostgreSQL by pg, email and password, sessions in a cookie; bcrypt, at the
// cost that all are measured with, for its scrypt. Limits are off, as in all; a line for each request, as in all.
import http from "node:http";
import bcrypt from "bcrypt";
import { betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";
import { toNodeHandler } from "better-auth/node";
import pg from "pg";

const { BCRYPT_COST, DATABASE_URL, PORT, SECRET_KEY } = process.env;

const auth = betterAuth({
  baseURL: `http://127.0.0.1:${PORT}`,
  secret: SECRET_KEY,
  database: new pg.Pool({ connectionString: DATABASE_URL, max: 16 }),
  emailAndPassword: {
    enabled: true,
    password: {
      hash: (password) => bcrypt.hash(password, Number(BCRYPT_COST)),
      verify: ({ hash, password }) => bcrypt.compare(password, hash),
    },
  },
  rateLimit: { enabled: false },
  telemetry: { enabled: false },
});

await (await getMigrations(auth.options)).runMigrations();

const handle = toNodeHandler(auth);

http
  .createServer((request, response) => {
    const began = performance.now();
    response.on("finish", () => {
      const milliseconds = Math.round((performance.now() - began) * 1000) / 1000;
      const { method, url } = request;
      console.log(JSON.stringify({ at: new Date(), method, url, status: response.statusCode, milliseconds }));
    });
    handle(request, response);
  })
  .listen(Number(PORT), "127.0.0.1");
