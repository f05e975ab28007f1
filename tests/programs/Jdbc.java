// pgJDBC. See checks.py for what a program prints.

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Arrays;
import java.util.Properties;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyManager;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;

class Jdbc {
    static final String SETTINGS =
        "select string_agg(name || '=' || setting, '; ' order by name) from pg_settings where source = 'client'";

    interface Run { String run() throws Exception; }

    static void check(String name, Run run) {
        try {
            String seen = run.run();
            System.out.println(seen == null ? "ok " + name : "ok " + name + ": " + seen);
        } catch (Throwable e) {
            System.out.println("FAIL " + name + ": " + story(e).replaceAll("\\s+", " "));
        }
    }

    static void cannot(String name, String why) { System.out.println("no " + name + ": " + why); }

    static String story(Throwable e) {
        StringBuilder text = new StringBuilder();
        for (Throwable it = e; it != null; it = it.getCause()) {
            if (it instanceof SQLException) text.append(((SQLException) it).getSQLState()).append(' ');
            text.append(it.getClass().getSimpleName()).append(": ").append(it.getMessage()).append("; ");
        }
        return text.toString();
    }

    /** Runs what must fail, with this in the error; returns the error's story. */
    static String fails(String words, Run run) throws Exception {
        try {
            run.run();
        } catch (Exception e) {
            if (!Pattern.compile(words).matcher(story(e)).find()) throw e;
            return story(e);
        }
        throw new Exception("it did not fail");
    }

    static void same(Object seen, Object expected) throws Exception {
        if (!seen.equals(expected)) throw new Exception(seen + " instead of " + expected);
    }

    static String env(String name) { return System.getenv("AT_" + name); }

    /** A connection, with these properties in place of the usual. `at` is one of them: host and port. */
    static Connection connect(String... more) throws SQLException {
        Properties told = new Properties();
        told.put("user", env("USER"));
        told.put("password", env("PASSWORD"));
        told.put("sslmode", "verify-full");
        told.put("sslrootcert", env("CA"));
        told.put("connectTimeout", "20");
        told.put("at", env("HOST") + ":" + env("PORT"));
        for (int n = 0; n < more.length; n += 2) told.put(more[n], more[n + 1]);
        return DriverManager.getConnection("jdbc:postgresql://" + told.remove("at") + "/" + env("DATABASE"), told);
    }

    static String one(Connection c, String sql) throws SQLException {
        try (Statement s = c.createStatement(); ResultSet r = s.executeQuery(sql)) {
            r.next();
            return r.getString(1);
        }
    }

    static void run(Connection c, String sql) throws SQLException {
        try (Statement s = c.createStatement()) { s.execute(sql); }
    }

    static String ask(String sql, String... more) throws SQLException {
        try (Connection c = connect(more)) { return one(c, sql); }
    }

    static String works(String... more) throws Exception {
        same(ask("select 1", more), "1");
        return null;
    }

    public static void main(String[] arguments) throws Exception {
        String version = org.postgresql.Driver.getVersion();
        System.out.println("version " + version.replaceAll("[^0-9]*([0-9]+\\.[0-9]+).*", "$1"));
        connecting();
        try (Connection c = connect("prepareThreshold", "1")) { working(c); }
    }

    static void connecting() {
        check("require", () -> works("sslmode", "require", "sslrootcert", env("CA")));
        check("verify-ca", () -> works("sslmode", "verify-ca"));
        check("verify-full", () -> works());
        check("wrong-name", () -> {
            fails("hostname 127.0.0.1 could not be verified", () -> works("at", "127.0.0.1:" + env("PORT")));
            return null;
        });
        check("wrong-authority", () -> {
            fails("unable to find valid certification path|PKIX|ValidatorException|Path does not chain", () -> works("sslrootcert", env("OTHER_CA")));
            return null;
        });
        cannot("binding", "this release has only SCRAM-SHA-256");
        check("no-binding", () -> works());
        cannot("direct", "this release has only SSLRequest");
        check("settings", () -> ask(SETTINGS, "ApplicationName", "tests 'and' more", "currentSchema", "\"a b\",c",
            "options", "-c geqo=off -c statement_timeout=12345 --work-mem=1234kB -c DateStyle=German"));
        check("wrong-password", () -> {
            fails("28P01 .*authentication failed for user", () -> works("password", "wrong"));
            return null;
        });
        if (env("DENIED_PORT") == null) return;
        check("denied", () -> {
            String told = fails("28000 .*PC-", () -> works("at", env("HOST") + ":" + env("DENIED_PORT")));
            Matcher reference = Pattern.compile("PC(-[0-9A-Z]{4}){3}").matcher(told);
            reference.find();
            return reference.group();
        });
        check("connect-timeout", () -> {
            fails("timed out|Timeout", () -> works("at", env("HOST") + ":" + env("SILENT_PORT"), "connectTimeout", "1", "loginTimeout", "1"));
            return null;
        });
    }

    static void working(Connection c) {
        check("prepared", () -> {
            try (PreparedStatement s = c.prepareStatement("select ?::int + 1")) {
                for (int n = 0; n < 1000; n++) {
                    s.setInt(1, n);
                    try (ResultSet r = s.executeQuery()) {
                        r.next();
                        same(r.getInt(1), n + 1);
                    }
                }
            }
            return null;
        });
        check("pipeline", () -> {
            run(c, "create temp table many (n int)");
            try (PreparedStatement s = c.prepareStatement("insert into many values (?)")) {
                for (int n = 0; n < 500; n++) {
                    s.setInt(1, n);
                    s.addBatch();
                }
                s.executeBatch();
            }
            same(one(c, "select sum(n) from many"), "124750");
            return null;
        });
        check("copy", () -> {
            StringBuilder rows = new StringBuilder();
            for (int n = 0; n < 50000; n++) rows.append(n).append('\t').append("x".repeat(64)).append(n * 7).append('\n');
            byte[] text = rows.toString().getBytes(StandardCharsets.UTF_8);
            run(c, "create temp table t (n int, b text)");
            CopyManager copies = c.unwrap(PGConnection.class).getCopyAPI();
            copies.copyIn("copy t from stdin", new ByteArrayInputStream(text));
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            copies.copyOut("copy (select * from t order by n) to stdout", out);
            same(Arrays.equals(out.toByteArray(), text), true);
            return null;
        });
        check("notify", () -> {
            run(c, "listen jdbc");
            ask("select pg_notify('jdbc', repeat('x', 7000))");
            PGNotification[] heard = c.unwrap(PGConnection.class).getNotifications(10000);
            same(heard[0].getParameter(), "x".repeat(7000));
            return null;
        });
        check("large-object", () -> {
            byte[] blob = new byte[3000000];
            Arrays.fill(blob, (byte) 7);
            c.setAutoCommit(false);
            LargeObjectManager objects = c.unwrap(PGConnection.class).getLargeObjectAPI();
            long oid = objects.createLO();
            try (LargeObject object = objects.open(oid, LargeObjectManager.WRITE)) { object.write(blob); }
            c.commit();
            try (LargeObject object = objects.open(oid, LargeObjectManager.READ); InputStream in = object.getInputStream()) {
                same(Arrays.equals(in.readAllBytes(), blob), true);
            }
            objects.delete(oid);
            c.commit();
            c.setAutoCommit(true);
            return null;
        });
        check("cancel", () -> {
            try (Statement s = c.createStatement()) {
                Thread stop = new Thread(() -> {
                    try {
                        Thread.sleep(300);
                        s.cancel();
                    } catch (Exception e) {
                        System.out.println("FAIL cancel: " + e);
                    }
                });
                stop.start();
                fails("57014", () -> { s.execute("select pg_sleep(30)"); return null; });
                stop.join();
            }
            same(one(c, "select 1"), "1");
            return null;
        });
        check("statement-timeout", () -> {
            fails("57014", () -> ask("select pg_sleep(30)", "options", "-c statement_timeout=200"));
            // The driver's own: a cancel request when the time is up.
            try (Statement s = c.createStatement()) {
                s.setQueryTimeout(1);
                fails("57014", () -> { s.execute("select pg_sleep(30)"); return null; });
            }
            same(one(c, "select 1"), "1");
            return null;
        });
        check("binary", () -> {
            try (Connection own = connect("binaryTransfer", "true", "prepareThreshold", "-1")) {
                byte[] bytes = new byte[2000];
                for (int n = 0; n < bytes.length; n++) bytes[n] = (byte) n;
                try (PreparedStatement s = own.prepareStatement("select ?::int8, ?::bytea, array[1.5, 2.5]::float8[]")) {
                    s.setLong(1, 1L << 40);
                    s.setBytes(2, bytes);
                    try (ResultSet r = s.executeQuery()) {
                        r.next();
                        same(r.getLong(1), 1L << 40);
                        same(Arrays.equals(r.getBytes(2), bytes), true);
                        same(Arrays.toString((Object[]) r.getArray(3).getArray()), "[1.5, 2.5]");
                    }
                }
            }
            return null;
        });
        check("error", () -> {
            try {
                one(c, "select * from nowhere");
            } catch (org.postgresql.util.PSQLException e) {
                return e.getSQLState() + " " + e.getServerErrorMessage().getMessage();
            }
            throw new Exception("no error");
        });
        check("large-value", () -> {
            String large = "portcullis".repeat(2000000);
            try (PreparedStatement s = c.prepareStatement("select ?::text")) {
                s.setString(1, large);
                try (ResultSet r = s.executeQuery()) {
                    r.next();
                    same(r.getString(1).equals(large), true);
                }
            }
            return null;
        });
    }
}
