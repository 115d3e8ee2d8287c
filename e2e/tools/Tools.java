import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.Base64;

import org.apache.kafka.common.utils.internals.Exit;

/**
 * Runs Apache Kafka's tools, one after the other, in one JVM. A line of stdin is a command: the class, the input and the
 * arguments in base64, with blanks; a line of stdout is its exit status, its output and its errors in base64.
 */
public class Tools {
    /** Thrown in place of the end of the process. */
    static class Ended extends Error {
        final int status;

        Ended(int status) {
            this.status = status;
        }
    }

    public static void main(String[] none) throws Exception {
        PrintStream answers = System.out;
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
        Exit.setExitProcedure((status, message) -> end(status));
        Exit.setHaltProcedure((status, message) -> end(status));
        Exit.setShutdownHookAdder((name, hook) -> { });
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            String[] fields = line.split(" ");
            String[] args = new String[fields.length - 2];
            for (int i = 0; i < args.length; i++) {
                args[i] = decode(fields[i + 2]);
            }
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            ByteArrayOutputStream err = new ByteArrayOutputStream();
            System.setIn(new ByteArrayInputStream(decode(fields[1]).getBytes(StandardCharsets.UTF_8)));
            System.setOut(new PrintStream(out, true));
            System.setErr(new PrintStream(err, true));
            ended = null;
            int status = run(decode(fields[0]), args);
            status = ended == null ? status : ended;
            answers.println(status + " " + encode(out) + " " + encode(err));
            answers.flush();
        }
    }

    static Integer ended;

    // What a tool does after its end, with what it catches of it, nobody sees.
    static void end(int status) {
        if (ended == null) {
            ended = status;
        }
        PrintStream nowhere = new PrintStream(OutputStream.nullOutputStream());
        System.setOut(nowhere);
        System.setErr(nowhere);
        throw new Ended(status);
    }

    static int run(String tool, String[] args) {
        try {
            Class.forName(tool).getMethod("main", String[].class).invoke(null, (Object) args);
            return 0;
        } catch (InvocationTargetException e) {
            for (Throwable t = e.getCause(); t != null; t = t.getCause()) {
                if (t instanceof Ended) {
                    return ((Ended) t).status;
                }
            }
            e.getCause().printStackTrace();
            return 1;
        } catch (ReflectiveOperationException e) {
            e.printStackTrace();
            return 127;
        }
    }

    // Not empty, so that fields can be told apart.
    static String decode(String field) {
        return new String(Base64.getDecoder().decode(field.substring(1)), StandardCharsets.UTF_8);
    }

    static String encode(ByteArrayOutputStream bytes) {
        return "=" + Base64.getEncoder().encodeToString(bytes.toByteArray());
    }
}
