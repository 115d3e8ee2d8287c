import java.io.FileInputStream;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;

/** Prints the subjects of the certificates in a file as Kafka's brokers name them. */
public class Names {
    public static void main(String[] args) throws Exception {
        try (FileInputStream in = new FileInputStream(args[0])) {
            for (var c : CertificateFactory.getInstance("X.509").generateCertificates(in))
                System.out.println(((X509Certificate) c).getSubjectX500Principal().getName().replace("\n", "\\n"));
        }
    }
}
